"""An emulated machine as a host: see `host`."""

from vbench.testbed.host import MACHINES_MAX, MEMORY_MIB, TestbedHost

__all__ = ["MACHINES_MAX", "MEMORY_MIB", "TestbedHost"]
