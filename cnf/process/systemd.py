"""What a service and systemd have to do with each other: notifications, priorities of lines, and sockets."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from typing import Final, TextIO

from cnf.errors import UnavailableError

FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START."""
PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
"""syslog(3)'s for the levels of ``logging``."""


def priority(level: int, stream: TextIO) -> str:
    """Return what stands before a line of ``level`` by which the journal knows its priority, sd-daemon(3).

    That is "" where ``stream`` does not lead to the journal.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return ""
    if os.environ.get("JOURNAL_STREAM") != f"{status.st_dev}:{status.st_ino}":
        return ""
    return next((f"<{number}>" for least, number in PRIORITIES if level >= least), "<7>")


def notify(**variables: str | int) -> None:
    """Send ``variables`` (STATUS, READY, WATCHDOG, ...); do nothing where systemd does not listen.

    A datagram has a line VARIABLE=value for each.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    message = "\n".join(f"{name}={value}" for name, value in variables.items()).encode(errors="backslashreplace")
    # systemd may be restarting or gone, or this process out of descriptors: the service works without it.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        datagram.sendto(message, "\0" + path[1:] if path.startswith("@") else path)


def notify_reloading() -> None:
    """Announce a reload; systemd asks for the time of it in the same datagram."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd has passed, sd_listen_fds(3). Children get none of them.

    Raises:
        UnavailableError: one is something else, such as a pipe.

    """
    variables = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = variables["LISTEN_FDS"]
    if variables["LISTEN_PID"] != str(os.getpid()) or not count.isdecimal():
        return []
    try:
        sockets = [socket.socket(fileno=descriptor) for descriptor in range(FIRST_PASSED, FIRST_PASSED + int(count))]
    except OSError as error:
        message = f"systemd passed what is no socket: {error.strerror}"
        raise UnavailableError(message, remedy="in cnfd.socket: ListenStream= alone") from error
    for each in sockets:
        each.set_inheritable(False)
    return sockets


def is_service() -> bool:
    """Tell whether this process is what a unit has started: the remedies for one are the unit's options."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def watchdog_interval() -> float | None:
    """Return how often systemd wants to hear from us, in seconds; None if it does not."""
    if os.environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2e6 if usec.isdecimal() and int(usec) else None
