"""``cnfctl detach``: take off every interface what a daemon has left there, and unpin it; nothing else."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from cnf import lock
from cnf.cli.units import printable
from cnf.errors import AttachError, PrivilegeError
from cnf.kernel import capabilities, pins
from cnf.kernel.attach import Attacher
from cnf.kernel.links import Links

NONE: Final = -1
"""No program of this process's own: there is nothing that it could attach."""


def run(_arguments: argparse.Namespace) -> int:
    """Take everything back, say what, and return the exit status."""
    missing = capabilities.missing()
    if missing:
        raise PrivilegeError(capabilities.explain(missing))
    folder = pins.folder()
    refused = []
    with lock.take():
        _check_access(folder)
        with pins.left_behind(folder) as programs, Attacher(NONE, 0, programs) as attacher, Links() as links:
            for link in links.read():
                try:
                    if attacher.clean(link):
                        print(printable(f"detached from {link.name}"))
                except AttachError as error:
                    refused.append(str(error))
        if refused:  # the pins stay, by which the programs are known the next time
            raise AttachError("; ".join(refused))
        removed = pins.unpin(folder)
    print(f"unpinned {', '.join(sorted(removed))} under {folder}" if removed else f"nothing is left under {folder}")
    return 0


def _check_access(folder: Path) -> None:
    try:
        denied = folder.exists() and not os.access(folder, os.W_OK)
    except PermissionError:
        denied = True
    if denied:
        raise PrivilegeError(f"{folder} is another user's (run this as root, or as the user that cnfd runs as)")
