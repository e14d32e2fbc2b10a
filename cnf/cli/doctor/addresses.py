"""The addresses where cnfd is to listen, tried as it would: its control socket, and that of the metrics."""

from __future__ import annotations

import contextlib
import errno
import grp
import http.client
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cnf import config
from cnf.cli.api.replies import Status
from cnf.cli.doctor.report import Finding
from cnf.errors import ConfigError, PrivilegeError, Problem, UnavailableError

PATIENCE: Final = 2.0
"""Seconds to wait for the answer of a daemon that may be running."""


def judge_control(control: config.Control, answering: Status | None, daemon: Status | None) -> str:
    """Say whether cnfd could listen at its control socket, or ``daemon`` does; ``answering`` is whoever answers there.

    Raises:
        ConfigError, PrivilegeError, UnavailableError: it could not, in its own words.

    """
    path = Path(control.socket)
    for option, group in (("group", control.group), ("read_group", control.read_group)):
        try:
            grp.getgrnam(group or "root")
        except KeyError:
            remedy = f"groupadd {group}, or leave it empty"
            raise UnavailableError(f"control.{option}: there is no group {group!r} here", remedy=remedy) from None
    if daemon:
        return f"{path}: held by the cnfd that runs"
    if answering:  # from another network namespace
        raise UnavailableError(
            f"another cnfd (pid {answering['daemon']['pid']}) answers at {path}", remedy="stop it first"
        )
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            message = f"{path} exists and is no socket: move it away, or choose another path"
            raise ConfigError("control", [Problem("control.socket", message)])
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            if client.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise UnavailableError(f"control.socket {path}: something else answers there", remedy="stop it first")
    folder = next(folder for folder in path.parents if os.path.lexists(folder))
    if not folder.is_dir():
        raise ConfigError("control", [Problem("control.socket", f"{path}: {os.strerror(errno.ENOTDIR)}")])
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        denied = os.strerror(errno.EACCES)
        raise PrivilegeError(
            f"control.socket {path}: {denied}", remedy="run as root, or choose a folder of this user's"
        )
    return f"{path} is free"


def judge_metrics(metrics: config.Metrics, *, may_be_held: bool) -> str:
    """Say whether cnfd could listen at the metrics' address, or, where that ``may_be``, the one that runs does.

    Raises:
        UnavailableError: somebody else does, or the address is not this machine's.

    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(metrics.host, metrics.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        if may_be_held and error.errno == errno.EADDRINUSE and _is_cnfd(metrics):
            return f"{metrics.listen}: held by the cnfd that runs"
        message = f"metrics.listen {metrics.host}:{metrics.port}: {error.strerror}"
        raise UnavailableError(message, remedy="see who uses the port: ss -ltnp; or change it") from error
    return f"{metrics.listen} is free"


def _is_cnfd(metrics: config.Metrics) -> bool:
    """Tell whether the page at the metrics' address is cnfd's; where not everybody is shown it, believe that."""
    if metrics.web_config:
        return True
    with contextlib.closing(http.client.HTTPConnection(metrics.host, metrics.port, timeout=PATIENCE)) as connection:
        try:
            connection.request("GET", "/")
            return b"<small>cnfd " in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False


def judge_collectors(collectors: Sequence[str]) -> Iterator[Finding]:
    """Look up the name of each collector, ``HOST:PORT``."""
    for collector in collectors:
        host, _, port = collector.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        except OSError as error:
            seen = f"{collector}: {error.strerror or error}: no record is sent before the name is known"
            yield Finding("export.ipfix", "warning", seen, "correct the name, or give the collector's address")
        else:
            yield Finding("export.ipfix", "ok", f"{collector}: {found[0][4][0]}")
