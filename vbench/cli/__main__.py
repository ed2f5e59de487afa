"""`python -m vbench.cli` is `vbench`."""

import sys

from vbench.cli.main import main

sys.exit(main())
