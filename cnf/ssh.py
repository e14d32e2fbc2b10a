"""From where people are logged in over SSH, so that no change of the limits locks them out."""

from __future__ import annotations

import ctypes
import ipaddress
import os
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import Final

LIBRARY: Final = "libsystemd.so.0"


def clients() -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the addresses that this process, or a session that systemd-logind knows of, comes from."""
    found = []
    for text in (os.environ.get("SSH_CONNECTION", "").partition(" ")[0], *_remote_hosts()):
        with suppress(ValueError):  # a host's name, or none
            address = ipaddress.ip_address(text.partition("%")[0])  # a link-local one has its interface behind it
            found.append(ipaddress.ip_network(getattr(address, "ipv4_mapped", None) or address))
    return tuple(dict.fromkeys(found))


def _remote_hosts() -> Iterator[str]:
    """Yield what logind notes as the sessions' other ends (sd-login(3)); nothing where there is no systemd."""
    try:
        library = ctypes.CDLL(LIBRARY)
        get_sessions, get_remote_host = library.sd_get_sessions, library.sd_session_get_remote_host
    except (OSError, AttributeError):
        return
    libc = ctypes.CDLL(None)
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    sessions = ctypes.POINTER(ctypes.c_void_p)()
    for index in range(max(get_sessions(ctypes.byref(sessions)), 0)):
        host = ctypes.c_char_p()
        if get_remote_host(ctypes.c_void_p(sessions[index]), ctypes.byref(host)) >= 0 and host.value:
            yield host.value.decode(errors="replace")
            libc.free(host)
        libc.free(sessions[index])
    libc.free(sessions)
