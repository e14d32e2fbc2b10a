"""The command cnfd, up to the start of the compiling child."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

HEAVY: Final = ("numpy", "prometheus_client", "pyroute2", "structlog")


def test_it_is_light_to_import() -> None:
    """What is slow to load is loaded while the child compiles; and numpy, only once it is told to start no threads."""
    code = f"import sys, cnf.cnfd; print(*(name for name in {HEAVY} if name in sys.modules))"
    loaded = subprocess.run((sys.executable, "-P", "-c", code), capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []
