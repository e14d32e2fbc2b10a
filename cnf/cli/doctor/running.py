"""The daemon that runs here, if one does: whether it answers, and which programs are cnfd's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from cnf.cli.api.replies import Status
from cnf.cli.doctor.report import Finding
from cnf.errors import CnfError
from cnf.kernel import capabilities, pins

AS_ROOT: Final = "run the doctor as root"


def may_see(folder: Path) -> bool:
    """Tell whether this user would see who holds ``folder``: for a group that may ask the daemon, it is closed."""
    try:
        folder.stat()
    except OSError as error:
        return not isinstance(error, PermissionError)
    return True


def judge(daemon: Status | None, holder: int | None, path: str, *, refused: bool) -> str | list[Finding]:
    """Say what runs: ``daemon`` answers at ``path``, ``refused`` is who asks, ``holder`` has the pins' folder."""
    if daemon:
        return f"cnfd {daemon['daemon']['version']} runs, pid {daemon['daemon']['pid']}"
    if refused:
        return [Finding("daemon", "unknown", "one seems to run, and does not answer this user", AS_ROOT)]
    if holder:
        seen = f"a cnfd (pid {holder}) runs in this network namespace, and does not answer at {path}"
        remedy = (
            "if control.socket was changed: systemctl restart cnfd; if it is starting: wait; "
            f"else stop it: systemctl stop cnfd, or kill {holder}"
        )
        return [Finding("daemon", "problem", seen, remedy, os.EX_UNAVAILABLE)]
    return "none runs in this network namespace"


def programs(daemon: Status | None) -> set[int] | None:
    """Return the ids of the programs that are cnfd's: of the one that runs, and of one that was killed.

    None where this user cannot tell.
    """
    folder = pins.folder()
    if not may_see(folder):
        return None
    if folder.exists() and (capabilities.missing() or not os.access(folder, os.R_OK | os.X_OK)):
        return None
    interfaces = daemon["interfaces"] if daemon else []
    attached = {there["program_id"] for interface in interfaces for there in interface["directions"]}
    with suppress(OSError, CnfError), pins.left_behind(folder) as left_behind:
        attached |= left_behind.keys()
    return {program for program in attached if program is not None}
