"""`python3 -m vbench.system` is `vbench setup` on a bare clone."""

import sys

from vbench.system.packages import main

sys.exit(main())
