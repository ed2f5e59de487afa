"""Property tests have no deadline: a busy machine is not a fault."""

import os

from hypothesis import settings

settings.register_profile("vbench", deadline=None)
settings.load_profile("vbench")

# pytest-benchmark writes nothing where it reads this, and tests start runs of vbench.
os.environ.pop("PYTEST_XDIST_WORKER", None)
