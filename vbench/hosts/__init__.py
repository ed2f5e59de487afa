"""Where guests are launched: this machine, or another over SSH."""
