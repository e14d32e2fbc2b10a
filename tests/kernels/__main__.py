"""Run a command on another kernel: ``sudo .venv/bin/python -m tests.kernels 6.1 COMMAND``, from the checkout."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from tests.kernels import virtual
from tests.kernels.debian import SUITES, KernelError


def main() -> int:
    """Do as the command line says; return the command's exit status, or 71 where the kernel did not come to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=virtual.__doc__)
    parser.add_argument("--append", default="", metavar="TEXT", help="added to the kernel's command line")
    parser.add_argument("--minutes", type=float, default=240, help="for how long at most (%(default)g)")
    parser.add_argument("kernel", choices=SUITES)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    if reason := virtual.lacking():
        parser.exit(69, f"{parser.prog}: {reason}\n")
    try:
        show = partial(print, flush=True)
        return virtual.run(asked.kernel, asked.command, asked.minutes * 60, append=asked.append, show=show).status
    except KernelError as error:
        parser.exit(71, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
