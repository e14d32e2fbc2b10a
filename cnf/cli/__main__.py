"""``python -m cnf.cli`` is cnfctl."""

import sys

from cnf.cli import main

sys.exit(main())
