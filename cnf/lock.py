"""One daemon a network namespace: abstract Unix sockets are per namespace, end with their process, and name it."""

from __future__ import annotations

import socket
import struct
from typing import Final

from cnf.errors import UnavailableError

ADDRESS: Final = "\0cnfd"
QUEUE: Final = 4096
"""Connections that ask who holds the lock; nobody accepts them, so each takes a place in the queue."""


def take() -> socket.socket:
    """Take the lock of this network namespace; it is held until the socket is closed.

    Raises:
        UnavailableError: another process holds it; its pid is named.

    """
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(ADDRESS)
    except OSError as error:
        lock.close()
        message = f"another cnfd ({_holder()}) runs in this network namespace (stop it first: systemctl stop cnfd)"
        raise UnavailableError(message) from error
    lock.listen(QUEUE)
    return lock


def _holder() -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(ADDRESS)
        except OSError:
            return "pid unknown"
        pid, _uid, _gid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"pid {pid}"
