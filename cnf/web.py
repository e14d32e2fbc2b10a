"""The HTTP servers, by waitress: one thread of its own moves bytes, a few others run the application.

Clients that are slow, or do not read at all, cost a buffer and are cut off; they hold up nobody else.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, TcpWSGIServer, UnixWSGIServer
from waitress.task import WSGITask

from cnf.errors import ConfigError, PrivilegeError, Problem, UnavailableError

THREADS: Final = 4
SILENCE_LIMIT: Final = 30
"""Seconds after which a client that neither sends nor takes anything is cut off."""

SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python's socket module does not name it
GETSOCKOPT_LIMIT: Final = 1024  # the longest answer that Python's getsockopt() takes: 256 groups


class Peer(NamedTuple):
    """Who is at the other end of a Unix socket."""

    pid: int
    uid: int
    groups: frozenset[int]


class _Patient(BaseWSGIServer):
    """A server that also cuts off clients which stop reading in the middle of an answer."""

    def maintenance(self, now: float) -> None:
        """Close what has been silent for too long; called every few seconds by waitress."""
        channels = cast("dict[int, HTTPChannel]", self.active_channels)  # the stubs say otherwise
        for channel in tuple(channels.values()):
            if channel.last_activity < now - SILENCE_LIMIT:
                channel.handle_close()


class MetricsServer(_Patient, TcpWSGIServer):
    """HTTP on a TCP socket."""


class _PeerTask(WSGITask):
    def get_environment(self) -> WSGIEnvironment:
        environ: WSGIEnvironment = super().get_environment()
        if self.channel.socket is not None:  # closed meanwhile
            environ["cnf.peer"] = peer_of(self.channel.socket)
        return environ


class _PeerChannel(HTTPChannel):
    task_class = _PeerTask


class ControlServer(_Patient, UnixWSGIServer):
    """HTTP on a Unix socket; the application finds the client's credentials in ``environ["cnf.peer"]``."""

    channel_class = _PeerChannel


def peer_of(connection: socket.socket) -> Peer:
    """Return the credentials that the other end had when it connected (unix(7), SO_PEERCRED)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GETSOCKOPT_LIMIT)
    except OSError:  # more groups than that: only the primary one counts
        packed = b""
    return Peer(pid, uid, frozenset((gid, *(group for (group,) in struct.iter_unpack("I", packed)))))


def serve(server_class: type[BaseWSGIServer], listener: socket.socket, application: WSGIApplication, name: str) -> None:
    """Answer requests on ``listener`` from a daemon thread of its own, for as long as the process lives."""
    settings = Adjustments(
        threads=THREADS,
        ident=None,
        channel_timeout=SILENCE_LIMIT,
        cleanup_interval=5,
        asyncore_use_poll=True,
        # An answer that nobody takes waits in a temporary file until its client is cut off, and not in a thread.
        outbuf_high_watermark=1 << 40,
        max_request_header_size=64 << 10,
        max_request_body_size=64 << 10,
    )
    server = server_class(
        application,
        map={},
        _sock=listener,
        adj=settings,
        sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        bind_socket=False,
    )
    threading.Thread(target=server.run, name=name, daemon=True).start()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        UnavailableError: the address is taken or not this machine's.

    """
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        message = f"metrics.listen {host}:{port}: {error.strerror} (see who uses the port: ss -ltnp; or change it)"
        raise UnavailableError(message) from error
    listener.listen(1024)
    return listener


def listen_unix(path: Path, group: int | None) -> socket.socket:
    """Return a listening Unix socket, for root and ``group`` only; take over a stale socket file, nothing else.

    Raises:
        UnavailableError: another daemon answers there.
        ConfigError: something that is no socket is there, or the directory cannot be had.
        PrivilegeError: the file system refuses.

    """
    _clear_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o022)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.umask(0o177)
        listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(0o660)
    except PermissionError as error:
        raise PrivilegeError(
            f"control.socket {path}: {error.strerror} (run as root, choose another path, or make the daemon's user a "
            "member of control.group)"
        ) from error
    except OSError as error:
        raise ConfigError("control", [Problem("control.socket", f"{path}: {error.strerror}")]) from error
    finally:
        os.umask(umask)
    listener.listen(128)
    return listener


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # not there; or not to be looked at, and then bind says why
    if not stat.S_ISSOCK(mode):
        problem = Problem("control.socket", f"{path} is there and is no socket: move it away, or choose another path")
        raise ConfigError("control", [problem])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            return
        raise UnavailableError(f"another cnfd (pid {peer_of(probe).pid}) answers at {path} (stop it first)")


def reply(start_response: StartResponse, status: str, body: object, kind: str = "application/json") -> Iterable[bytes]:
    """Answer with ``body``: bytes as they are, text encoded, anything else as JSON."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body) + "\n").encode(errors="backslashreplace")
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
