"""Notifications to systemd, sd_notify(3): a datagram of VARIABLE=value lines to the socket that it names."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


def notify(**variables: str | int) -> None:
    """Send ``variables`` (STATUS, READY, WATCHDOG, ...); do nothing where systemd does not listen."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    message = "\n".join(f"{name}={value}" for name, value in variables.items()).encode(errors="backslashreplace")
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    # systemd is restarting or gone, or there is no descriptor to be had: the service works without it.
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as datagram:
        datagram.sendto(message, "\0" + path[1:] if path.startswith("@") else path)


def notify_reloading() -> None:
    """Announce a reload; systemd asks for the time of it in the same datagram."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def watchdog_interval() -> float | None:
    """Return how often systemd wants to hear from us, in seconds; None if it does not."""
    if os.environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 2e6 if usec.isdecimal() and int(usec) else None
