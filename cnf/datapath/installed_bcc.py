"""BCC as the distribution has installed it: which version there is, asked of a child, as the building does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from cnf.datapath.compiler import BCC_REMEDY
from cnf.errors import UnavailableError

BCC_CHILD: Final = """
import json
try:
    import bcc
except ImportError as error:
    answer = {"missing": str(error)}
else:
    answer = {"version": getattr(bcc, "__version__", "unknown")} if hasattr(bcc, "BPF") else {"wrong": bcc.__file__}
print(json.dumps(answer))
"""
BCC_PATIENCE: Final = 60.0


def bcc_version() -> str:
    """Import BCC in a child, as cnfd does, and return its version.

    Raises:
        UnavailableError: it is missing, is another package, or its import fails.

    """
    child = [sys.executable, "-P", "-c", BCC_CHILD]
    ended = subprocess.run(  # noqa: S603 - this Python, and a constant
        child, capture_output=True, check=False, timeout=BCC_PATIENCE, encoding="utf-8", errors="backslashreplace"
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        raise UnavailableError(f"importing BCC failed: {lines[-1]}", remedy=BCC_REMEDY)
    answer: dict[str, str] = json.loads(ended.stdout)
    if "missing" in answer:
        raise UnavailableError(f"BCC is missing: {answer['missing']}", remedy=BCC_REMEDY)
    if "wrong" in answer:
        raise UnavailableError(
            f"the module bcc at {answer['wrong']} is not BCC but PyPI's package of that name",
            remedy=f"pip uninstall bcc; {BCC_REMEDY}",
        )
    return answer["version"]
