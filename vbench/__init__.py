"""vbench: what each virtualization technique costs on this machine, measured."""

__version__ = "0.1.0"
