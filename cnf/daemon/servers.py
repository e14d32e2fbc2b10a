"""The daemon's two servers, of the metrics and of the control socket: what they listen on, and what they answer."""

from __future__ import annotations

import contextlib
import grp
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from cnf.config import Settings
from cnf.errors import UnavailableError
from cnf.process import systemd
from cnf.server.control import Control
from cnf.server.http import Web
from cnf.server.live import Live
from cnf.server.metrics_app import Exposition
from cnf.server.reloads import Reloads
from cnf.server.sockets import address_of, listen_tcp, listen_unix, sort_inherited
from cnf.server.state import State

if TYPE_CHECKING:
    from cnf.server.access import Access


class Servers:
    """Listen from the beginning on, so that what is refused stops the start; and serve once there is an answer."""

    def __init__(self, settings: Settings, log: FilteringBoundLogger, stack: contextlib.ExitStack) -> None:
        """Open the sockets, and read the web configuration; ``stack`` closes all in the end.

        Raises:
            CnfError: a group, an address or the web configuration is refused.

        """
        self._log = log
        self._stack = stack
        self._group = _group("group", settings.control.group)
        self._read_group = _group("read_group", settings.control.read_group)
        self._metrics_sockets, self._control_socket = self._listen(settings)
        self.access = self._open_access(settings.metrics.web_config)
        """Who may read the metrics; None without a web configuration."""
        self.places = {
            "metrics": ", ".join(map(address_of, self._metrics_sockets)),
            "socket": address_of(self._control_socket),
        }
        """Where they listen, for the log."""

    def start(self, state: State, live: Live, registry: CollectorRegistry, reloads: Reloads) -> None:
        """Answer from now on."""
        scrapes = Exposition(state, live, registry)
        web = Web("metrics", self._metrics_sockets, scrapes, Exposition.BOUNDS, self._log, access=self.access)
        self._stack.enter_context(web)
        calls = Control(state, live, (self._group, self._read_group), reloads.ask, self._log)
        self._stack.enter_context(Web("control", [self._control_socket], calls, Control.BOUNDS, self._log))
        self._stack.callback(reloads.close)  # first, so that nobody waits when the servers end

    def _listen(self, settings: Settings) -> tuple[Sequence[socket.socket], socket.socket]:
        """Return the listening sockets of the metrics, and that of control: systemd's, or else the settings'."""
        inherited = systemd.inherited_sockets()
        for each in inherited:
            self._stack.enter_context(each)
        metrics, control = sort_inherited(inherited)
        if control is None:
            path = Path(settings.control.socket)
            control = self._stack.enter_context(listen_unix(path, self._group, self._read_group))
            self._stack.callback(_unlink, path)
        if not metrics:
            listeners = listen_tcp(settings.metrics.host, settings.metrics.port, self._log)
            metrics = list(self._stack.enter_context(listeners))
        if inherited:
            self._log.info("listening on sockets of systemd", addresses=[address_of(each) for each in inherited])
        return metrics, control

    def _open_access(self, web_config: str) -> Access | None:
        if not web_config:
            return None
        from cnf.server.access import Access  # noqa: PLC0415 - OpenSSL, YAML and bcrypt, that others need not have

        access = Access(Path(web_config), self._log)
        self._stack.callback(access.close)
        return access


def _unlink(path: Path) -> None:
    """Remove the socket; where its folder has become another's, it stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def _group(option: str, name: str) -> int | None:
    """Return the gid of ``name``; None for no name. Raises UnavailableError, since it may come yet."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        remedy = f"groupadd {name}, or leave it empty"
        raise UnavailableError(f"control.{option}: there is no group {name!r} here", remedy=remedy) from None
