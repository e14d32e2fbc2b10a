"""The command cnfd, up to the start of the compiling child."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

HEAVY: Final = ("numpy", "prometheus_client", "pyroute2", "structlog")


def test_it_is_light_to_import() -> None:
    """What is slow to load is loaded while the child compiles; and numpy, only once it is told to start no threads."""
    code = f"import sys, cnf.cnfd; print(*(name for name in {HEAVY} if name in sys.modules))"
    loaded = subprocess.run((sys.executable, "-P", "-c", code), capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_without_stderr_an_error_has_its_status() -> None:
    """Where nobody is to be told, whoever has started it still knows why it ended."""
    closed = ("sh", "-c", 'exec "$0" "$@" 2>&-')
    ended = subprocess.run((*closed, sys.executable, "-P", "-m", "cnf.cnfd", "--config", "/nonexistent"), check=False)
    assert ended.returncode == os.EX_CONFIG
