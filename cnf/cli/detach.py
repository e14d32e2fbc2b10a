"""``cnfctl detach``: take the program that a daemon has left off all interfaces, and unpin it; nothing else."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cnf.cli.api.client import Client
from cnf.errors import AttachError, CnfError, PrivilegeError
from cnf.kernel import capabilities, pins
from cnf.kernel.leavings import programs_on, take_back
from cnf.kernel.links import Links
from cnf.process import lock
from cnf.units import printable


def run(arguments: argparse.Namespace) -> int:
    """Detach and unpin everything, print what, and return the exit status."""
    missing = capabilities.missing()
    if missing:
        raise capabilities.lacking(missing)
    folder = pins.folder()
    _check_access(folder)
    with lock.take(folder) as trouble, Links() as links:
        _check_daemon(arguments.socket, links)
        taken = take_back(None if trouble else folder, links)
    for name in taken.interfaces:
        print(printable(f"detached from {name}"))
    if taken.refused:
        raise AttachError("; ".join(taken.refused))
    if trouble:
        print(printable(f"{trouble.filename}: {trouble.strerror}, and is left alone"))
    elif taken.unpinned:
        print(f"unpinned {', '.join(sorted(taken.unpinned))} under {folder}")
    else:
        print(f"nothing is left under {folder}")
    return 0


def _check_daemon(socket: str, links: Links) -> None:
    """Refuse if a daemon runs in this network namespace that could pin nothing, and so holds no lock."""
    try:
        status = Client(socket).status()
    except CnfError:
        return
    running = {interface["program_id"] for interface in status["interfaces"]} - {None}
    running |= {there["program_id"] for interface in status["interfaces"] for there in interface["directions"]} - {None}
    if not running.isdisjoint(programs_on(links.read())):
        raise lock.running(status["daemon"]["pid"])


def _check_access(folder: Path) -> None:
    try:
        denied = folder.exists() and not os.access(folder, os.W_OK)
    except PermissionError:
        denied = True
    if denied:
        raise PrivilegeError(
            f"{folder} belongs to another user", remedy="run this as root, or as the user that cnfd runs as"
        )
