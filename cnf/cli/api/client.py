"""Requests to cnfd: HTTP and JSON over its Unix socket. Every failure is an error of one clear line."""

from __future__ import annotations

import errno
import grp
import http.client
import io
import json
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

from cnf.cli.api.check import check
from cnf.cli.api.event_replies import KINDS, Event, Events
from cnf.cli.api.limit_replies import Change, Explanation, Limits, Source, Sources
from cnf.cli.api.replies import Flow, Flows, Groups, Pairs, Refusal, Reloaded, Status
from cnf.errors import CnfError, ConfigError, KernelError, PrivilegeError, UnavailableError, UsageError

TIMEOUT: Final = 10.0
"""Seconds that the daemon may be silent: it sorts a million flows in a fraction of a second."""
TURN: Final = 4
"""Factor of TIMEOUT for a listing of everything: cnfd writes only a few of these at a time."""


class DaemonConfigError(CnfError):
    """Pass on the daemon's own line about its configuration, or a change to it."""

    exit_status = ConfigError.exit_status


_ERRORS: Final[dict[int, type[CnfError]]] = {
    error.exit_status: error for error in (UsageError, UnavailableError, KernelError, PrivilegeError, DaemonConfigError)
}
_BUFFER: Final = 1 << 16
LISTINGS: Final = ("/v1/flows", "/v1/limits/sources")

Query = Mapping[str, str | int]
Request = Mapping[str, object]
"""A request for a change, sent as JSON."""
Reply = TypeVar("Reply")


class Client:
    """A client of one daemon. Each request has a connection of its own, so a restart of the daemon breaks nothing.

    Every method raises UnavailableError if there is no daemon or the answer is not cnfd's, PrivilegeError if the socket
    or the daemon refuses this user, and otherwise the error whose exit status the daemon reports.
    """

    def __init__(self, socket_path: str, timeout: float = TIMEOUT) -> None:
        """Take the socket's path; nothing is connected yet."""
        self._path = socket_path
        self._timeout = timeout

    def flows(self, query: Query) -> Flows:
        """Return the flows that ``query`` (top, sort, filter) selects, and the totals of all that match it."""
        return self._document("/v1/flows", {**query, "format": "json"}, Flows)

    def pairs(self, query: Query) -> Pairs:
        """Return the connections that ``query`` selects, and the totals of all that match it."""
        return self._document("/v1/flows", {**query, "pairs": 1, "format": "json"}, Pairs)

    def groups(self, query: Query) -> Groups:
        """Return the groups that ``query``, with ``by`` in it, selects, and the totals of all that match it."""
        return self._document("/v1/flows", {**query, "format": "json"}, Groups)

    def flow_lines(self, query: Query, output: str) -> Iterator[bytes]:
        """Yield the selected flows as the daemon writes them: lines of ``output``, "jsonl" or "csv".

        With ``pairs`` in the query, 1, they are connections; with ``by``, groups.
        """
        return self._lines("/v1/flows", query, output)

    def each_flow(self, query: Query) -> Iterator[Flow]:
        """Yield the selected flows one by one as they arrive; it is only checked that they are JSON objects."""
        return self._each("/v1/flows", query)

    def limits(self) -> Limits:
        """Return the limits in force, and what each rule counted."""
        return self._document("/v1/limits", {}, Limits)

    def change_limits(self, request: Request) -> Change:
        """Change the limits as ``request`` says, and return the effect."""
        return self._document("/v1/limits", {}, Change, request)

    def sources(self, query: Query) -> Sources:
        """Return the buckets that ``query`` (top, sort) selects."""
        return self._document("/v1/limits/sources", {**query, "format": "json"}, Sources)

    def source_lines(self, query: Query, output: str) -> Iterator[bytes]:
        """Yield the selected buckets as the daemon writes them: lines of ``output``, "jsonl" or "csv"."""
        return self._lines("/v1/limits/sources", query, output)

    def each_source(self, query: Query) -> Iterator[Source]:
        """Yield the selected buckets one by one as they arrive; it is only checked that they are JSON objects."""
        return self._each("/v1/limits/sources", query)

    def explain(self, query: Query) -> Explanation:
        """Return what decides on an ``address``, or on one ``protocol`` or ``interface`` of it, and why."""
        return self._document("/v1/limits/explain", query, Explanation)

    def events(self, query: Query) -> Events:
        """Return the events that ``query`` (after, top) selects, the oldest first."""
        with self._answer("/v1/events", query) as response:
            reply: Events = json.load(response)
            check(reply, Events)
            for event in reply["events"]:
                check(event, KINDS.get(event["event"], Event))
            return reply

    def reload(self) -> Reloaded:
        """Let the daemon read its configuration again; return the outcome once it is in force."""
        return self._document("/v1/reload", {}, Reloaded, {})

    def status(self) -> Status:
        """Return the daemon's state."""
        return self._document("/v1/status", {}, Status)

    def _document(self, path: str, query: Query, kind: type[Reply], request: Request | None = None) -> Reply:
        with self._answer(path, query, request) as response:
            document: Reply = json.load(response)
            check(document, kind)
            return document

    def _lines(self, path: str, query: Query, output: str) -> Iterator[bytes]:
        with self._answer(path, {**query, "format": output}) as response:
            yield from _lines(response)

    def _each(self, path: str, query: Query) -> Iterator[Reply]:
        with self._answer(path, {**query, "format": "jsonl"}) as response:
            for line in _lines(response):
                document: Reply = json.loads(line)
                check(document, dict)
                yield document

    @contextmanager
    def _answer(self, path: str, query: Query, request: Request | None = None) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and turn every failure until the body has been read into the right CnfError."""
        everything = path in LISTINGS and "top" not in query
        timeout = self._timeout * (TURN if everything else 1)
        connection = _UnixConnection(self._path, timeout)
        with closing(connection):
            try:
                target = f"{path}?{urlencode(query, errors='surrogateescape')}" if query else path
                if request is None:
                    connection.request("GET", target)
                else:
                    connection.request("POST", target, json.dumps(request), {"Content-Type": "application/json"})
                response = connection.getresponse()
                if response.status != HTTPStatus.OK:
                    raise self._refusal(response)
                yield response
            except OSError as error:
                raise self._unreachable(error, timeout) from error
            except (http.client.HTTPException, ValueError, RecursionError) as error:
                broken = isinstance(error, http.client.IncompleteRead)
                reason = "it broke off before its end" if broken else str(error) or type(error).__name__
                message = (
                    f"no answer of cnfd on {self._path}: {reason} "
                    "(another program's socket, a daemon of another version, or one that ended meanwhile)"
                )
                raise UnavailableError(message) from error

    def _refusal(self, response: http.client.HTTPResponse) -> CnfError:
        try:
            refusal: Refusal = json.load(response)
            check(refusal, Refusal)
        except ValueError as error:
            message = f"HTTP {response.status} {response.reason}"
            raise http.client.HTTPException(message) from error
        return _ERRORS.get(refusal["exit_status"], UnavailableError)(refusal["error"])

    def _unreachable(self, error: OSError, timeout: float) -> CnfError:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                state = f"{self._path} does not exist"
            case errno.ECONNREFUSED:
                state = f"nobody listens on {self._path}, it was left behind"
            case errno.EACCES | errno.EPERM:
                return PrivilegeError(f"{self._path}: {error.strerror}", remedy=f"run cnfctl as root{self._or_group()}")
            case _ if isinstance(error, TimeoutError | BlockingIOError):
                return UnavailableError(
                    f"cnfd does not answer on {self._path} within {timeout:g} s",
                    remedy="overloaded or stuck: journalctl -u cnfd",
                )
            case _:
                return UnavailableError(f"no answer of cnfd on {self._path}: {error.strerror or error}")
        return UnavailableError(
            f"cnfd is not running: {state}", remedy="start it: systemctl start cnfd, or name its socket with --socket"
        )

    def _or_group(self) -> str:
        """Return the hint that members of the socket's group may use it, if they may."""
        try:
            status = Path(self._path).stat()
            group = grp.getgrgid(status.st_gid)
        except (OSError, KeyError):
            return ""
        return f" or as a member of group {group.gr_name}" if status.st_mode & stat.S_IWGRP and group.gr_gid else ""


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    yield from io.BufferedReader(response, _BUFFER)
    if response.length:  # http.client notices a missing end of chunked bodies only
        nothing_more = b""
        raise http.client.IncompleteRead(nothing_more, response.length)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
