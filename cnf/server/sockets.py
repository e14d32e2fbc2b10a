"""The sockets that the servers listen on, and the credentials of their peers."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError

BACKLOG: Final = 1024
"""Connections that may wait in the kernel to be accepted."""
FAMILIES: Final = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}
RECEIVE_BUFFER: Final = 16 << 10
"""Bytes that the kernel is asked to keep for a client until they are read; it allows about twice as many."""
NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Errors of bind(2) and socket(2) for an address that this machine does not have, or does not support."""
NO_PLACE: Final = {None, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP, errno.EINVAL}
"""Errors for a path at which there can never be a socket; for one too long, Python raises one without a number."""
IPV6_OFF: Final = 'for IPv4 alone write "0.0.0.0:{port}"'

# linux/posix_acl_xattr.h, linux/posix_acl.h
ACL_VERSION: Final = 2
ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 0x01, 0x04, 0x08, 0x10, 0x20

SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python's socket module does not name it
GETSOCKOPT_LIMIT: Final = 1024  # the longest answer that Python's getsockopt() takes: 256 groups


class Peer(NamedTuple):
    """The process at the other end of a Unix socket."""

    pid: int
    uid: int
    groups: frozenset[int]


def peer_of(connection: socket.socket) -> Peer:
    """Return the credentials that the other end had when it connected (unix(7), SO_PEERCRED)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GETSOCKOPT_LIMIT)
    except OSError:  # more groups than that: only the primary one counts
        packed = b""
    return Peer(pid, uid, frozenset((gid, *(group for (group,) in struct.iter_unpack("I", packed)))))


def sort_inherited(listeners: Sequence[socket.socket]) -> tuple[list[socket.socket], socket.socket | None]:
    """Return which of the sockets that systemd has passed are for the metrics, and which is the control socket.

    Raises:
        UnavailableError: one is no listening socket for streams, or there are two control sockets.

    """
    control: socket.socket | None = None
    metrics = []
    for listener in listeners:
        is_stream = listener.type == socket.SOCK_STREAM and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if not is_stream or listener.family not in FAMILIES or (listener.family == socket.AF_UNIX and control):
            message = f"systemd passed a socket that cnfd has no use for: {address_of(listener)}"
            remedy = "in cnfd.socket: ListenStream= for the metrics, and once, if at all, for the control socket"
            raise UnavailableError(message, remedy=remedy)
        if listener.family == socket.AF_UNIX:
            control = listener
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            metrics.append(listener)
    return metrics, control


def address_of(listener: socket.socket) -> str:
    """Return where a socket listens, as systemd writes it: 127.0.0.1:9995, [::1]:9995, or a path."""
    address = listener.getsockname()
    match listener.family:
        case socket.AF_INET:
            return f"{address[0]}:{address[1]}"
        case socket.AF_INET6:
            return f"[{address[0]}]:{address[1]}"
        case _:
            return str(address)


@contextmanager
def listen_tcp(host: str, port: int, log: FilteringBoundLogger) -> Iterator[Sequence[socket.socket]]:
    """Open listening TCP sockets, one for each address of ``host``, for the length of a ``with`` block.

    Addresses that this machine does not have are left out and logged, if there is another one.

    Raises:
        UnavailableError: there is no such address here, or the port is in use.
        PrivilegeError: the port needs a privilege.

    """
    where = f"metrics.listen {f'[{host}]' if ':' in host else host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UnavailableError(
            f"{where}: {error.strerror}", remedy=f"is the name right? getent ahosts {host}"
        ) from error
    refusals: list[tuple[str, OSError]] = []
    with ExitStack() as stack:
        listeners = []
        for family, _kind, _protocol, _name, address in dict.fromkeys(found):
            try:
                listeners.append(stack.enter_context(_listening(family, address)))
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise listen_error(where, host, port, error) from error
                refusals.append((str(address[0]), error))
        if not listeners:
            raise listen_error(where, host, port, refusals[0][1])
        for shown, refusal in refusals:
            log.warning("not listening on one address", listen=where, address=shown, error=refusal.strerror)
        yield listeners


def listen_error(where: str, host: str, port: int, error: OSError) -> CnfError:
    """Return the error for a TCP address that cannot be listened on, with the remedy that fits."""
    message = f"{where}: {error.strerror}"
    ipv6 = ":" in host
    match error.errno:
        case errno.EADDRINUSE:
            return UnavailableError(message, remedy="see who uses the port: ss -ltnp; or change it")
        case errno.EACCES | errno.EPERM:
            remedy = "choose a port from 1024 on, or run with CAP_NET_BIND_SERVICE"
            return PrivilegeError(message, remedy=remedy)
        case errno.EAFNOSUPPORT:
            return UnavailableError(message, remedy=f"this kernel has IPv6 off: {IPV6_OFF.format(port=port)}")
        case errno.EADDRNOTAVAIL if ipv6:
            remedy = f"no interface here has the address, see: ip -6 address; where IPv6 is off, {IPV6_OFF}"
            return UnavailableError(message, remedy=remedy.format(port=port))
        case errno.EADDRNOTAVAIL:
            return UnavailableError(message, remedy="no interface here has the address, see: ip address")
        case _:
            return UnavailableError(message, remedy="choose another address or port")


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that listens on ``address``, as getaddrinfo(3) has it. Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # what is accepted inherits it
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def listen_unix(path: Path, group: int | None, read_group: int | None = None) -> socket.socket:
    """Return a listening Unix socket, for root and two groups only; take over a stale socket file, nothing else.

    Members of either group may connect; what they may ask is the application's matter.

    Raises:
        UnavailableError: another daemon answers there, or the file system is full, or fails.
        ConfigError: something else is there, or there can never be a socket.
        PrivilegeError: the file system refuses.

    """
    umask = os.umask(0o022)
    try:
        _clear_stale(path)
        with ExitStack() as undo:
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.umask(0o177)
            listener.bind(str(path))
            if group is not None:
                _give(path, group)
            if read_group is not None:
                _open_to(path, read_group)
            listener.listen(BACKLOG)
            undo.pop_all()
            return listener
    except OSError as error:
        raise _no_socket(path, error) from error
    finally:
        os.umask(umask)


def _give(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
    except PermissionError as error:
        path.unlink()
        remedy = "make this user a member of it; a service, by SupplementaryGroups="
        message = f"control.socket {path}: {error.strerror}, to give it to control.group"
        raise PrivilegeError(message, remedy=remedy) from error
    path.chmod(0o660)


def _open_to(path: Path, group: int) -> None:
    """Let one more group connect, by an access control list, acl(5): a file has one group."""
    owners = path.stat().st_mode >> 3 & 0o7
    entries = (
        (ACL_USER_OBJ, 6, -1),
        (ACL_GROUP_OBJ, owners, -1),
        (ACL_GROUP, 6, group),
        (ACL_MASK, 6, -1),
        (ACL_OTHER, 0, -1),
    )
    packed = struct.pack("<I", ACL_VERSION) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError as error:
        path.unlink()
        message = f"control.socket {path}: {error.strerror}, to open it to control.read_group"
        remedy = "its file system has no access control lists: keep it in /run"
        raise UnavailableError(message, remedy=remedy) from error


def _no_socket(path: Path, error: OSError) -> CnfError:
    where, words = f"control.socket {path}", error.strerror or str(error)
    if error.errno in NO_PLACE:
        return ConfigError("control", [Problem("control.socket", f"{path}: {words}")])
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "run as root, or choose a folder of this user's; for a service, name it in ReadWritePaths="
        return PrivilegeError(f"{where}: {words}", remedy=remedy)
    return UnavailableError(f"{where}: {words}", remedy="make room there, or choose another path")


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # it is not there; or it cannot be looked at, then bind() says why
    if not stat.S_ISSOCK(mode):
        problem = Problem("control.socket", f"{path} exists and is no socket: move it away, or choose another path")
        raise ConfigError("control", [problem])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            return
        raise UnavailableError(f"another cnfd (pid {peer_of(probe).pid}) answers at {path}", remedy="stop it first")
