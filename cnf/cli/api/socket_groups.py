"""The groups whose members may use a control socket: by its mode, or by its access control list, acl(5)."""

from __future__ import annotations

import grp
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

WRITE: Final = 0o2
GROUP_OBJ, GROUP = 0x04, 0x08
"""Entries of linux/posix_acl.h: of the file's own group, and of another one."""
HEAD: Final = 4
"""Bytes of the version before the entries."""


def groups(path: str) -> list[str]:
    """Return their names, but root's. Raises OSError."""
    found = []
    for gid in dict.fromkeys(_gids(path)):
        with suppress(KeyError):  # it has no name
            group = grp.getgrgid(gid)
            if group.gr_gid:
                found.append(group.gr_name)
    return found


def _gids(path: str) -> Iterator[int]:
    status = Path(path).stat()
    try:
        entries = os.getxattr(path, "system.posix_acl_access")[HEAD:]
    except OSError:  # it has none
        entries = struct.pack("<HHI", GROUP_OBJ, status.st_mode >> 3 & 0o7, 0)
    for tag, rights, gid in struct.iter_unpack("<HHI", entries):
        if tag in (GROUP_OBJ, GROUP) and rights & WRITE:
            yield status.st_gid if tag == GROUP_OBJ else gid
