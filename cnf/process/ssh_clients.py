"""From where people are logged in over SSH, so that no change of the limits locks them out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from cnf.addresses import peer

Network = IPv4Network | IPv6Network

LIBRARY: Final = "libsystemd.so.0"
SESSIONS: Final = Path("/run/systemd/sessions")
"""Where systemd-logind has them; it makes the folder when it starts."""
LEFT: Final = "closing"
"""State of a session whose user has logged out while a process of it runs on."""


def clients(known: Iterable[Network] | None) -> tuple[Network, ...]:
    """Return the addresses that this process, or a session that systemd-logind knows of, comes from.

    ``known`` is what ``sessions()`` has returned.
    """
    here = _addresses([os.environ.get("SSH_CONNECTION", "").partition(" ")[0]])
    return tuple(dict.fromkeys((*here, *(known or ()))))


def sessions() -> tuple[Network, ...] | None:
    """Return the addresses that the sessions come from which systemd-logind knows of; None if there is none to ask."""
    return _addresses(_remote_hosts()) if SESSIONS.is_dir() else None


def _addresses(hosts: Iterable[str]) -> tuple[Network, ...]:
    found = []
    for text in hosts:
        with suppress(ValueError):  # a host's name, or none
            found.append(peer(text))
    return tuple(dict.fromkeys(found))


def _remote_hosts() -> Iterator[str]:
    """Yield what logind notes as the other ends of sessions that somebody uses (sd-login(3)); nothing without it."""
    try:
        library = ctypes.CDLL(LIBRARY)
        get_sessions = library.sd_get_sessions
        get_remote_host, get_state = library.sd_session_get_remote_host, library.sd_session_get_state
    except (OSError, AttributeError):
        return
    libc = ctypes.CDLL(None)
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None

    def text_of(get: Callable[..., int], session: int | None) -> str:
        text = ctypes.c_char_p()
        if get(ctypes.c_void_p(session), ctypes.byref(text)) < 0 or text.value is None:
            return ""
        found = text.value.decode(errors="replace")
        libc.free(text)
        return found

    known = ctypes.POINTER(ctypes.c_void_p)()
    for index in range(max(get_sessions(ctypes.byref(known)), 0)):
        if text_of(get_state, known[index]) != LEFT:
            yield text_of(get_remote_host, known[index])
        libc.free(known[index])
    libc.free(known)
