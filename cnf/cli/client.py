"""Questions to cnfd: HTTP and JSON over its Unix socket, and every way in which that fails as one clear line."""

from __future__ import annotations

import errno
import grp
import http.client
import io
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlencode

from cnf.cli.replies import Flow, Flows, Refusal, Status, check
from cnf.errors import CnfError, KernelError, PrivilegeError, UnavailableError, UsageError

TIMEOUT: Final = 10.0
"""Seconds that the daemon may stay silent: it sorts a million flows in a fraction of one."""

_ERRORS: Final[dict[int, type[CnfError]]] = {
    error.exit_status: error for error in (UsageError, UnavailableError, KernelError, PrivilegeError)
}
_BUFFER: Final = 1 << 16

Query = Mapping[str, str | int]
Reply = TypeVar("Reply")


class Client:
    """A caller of one daemon; each question is a connection of its own, so a daemon's restart breaks nothing.

    Every method raises UnavailableError when there is no daemon or its answer is not cnfd's, PrivilegeError when the
    socket or the daemon refuses this user, and what else the daemon itself reports by its exit status.
    """

    def __init__(self, socket_path: str, timeout: float = TIMEOUT) -> None:
        """Remember where to call; nothing is connected yet."""
        self._path = socket_path
        self._timeout = timeout

    def flows(self, query: Query) -> Flows:
        """Return the flows that ``query`` (top, sort, filter) selects, and the totals of all that match it."""
        return self._document("/v1/flows", {**query, "format": "json"}, Flows)

    def flow_lines(self, query: Query, output: str) -> Iterator[bytes]:
        """Yield the selected flows as the daemon writes them: lines of ``output``, "jsonl" or "csv"."""
        with self._answer("/v1/flows", {**query, "format": output}) as response:
            yield from _lines(response)

    def each_flow(self, query: Query) -> Iterator[Flow]:
        """Yield the selected flows one by one, as they arrive; only their being JSON objects is checked."""
        with self._answer("/v1/flows", {**query, "format": "jsonl"}) as response:
            for line in _lines(response):
                flow: Flow = json.loads(line)
                check(flow, dict)
                yield flow

    def status(self) -> Status:
        """Return what the daemon says about itself."""
        return self._document("/v1/status", {}, Status)

    def _document(self, path: str, query: Query, kind: type[Reply]) -> Reply:
        with self._answer(path, query) as response:
            document: Reply = json.load(response)
            check(document, kind)
            return document

    @contextmanager
    def _answer(self, path: str, query: Query) -> Iterator[http.client.HTTPResponse]:
        """Ask, and turn whatever goes wrong until the body has been read into the one error that it means."""
        connection = _UnixConnection(self._path, self._timeout)
        with closing(connection):
            try:
                connection.request("GET", f"{path}?{urlencode(query, errors='surrogateescape')}")
                response = connection.getresponse()
                if response.status != HTTPStatus.OK:
                    raise self._refusal(response)
                yield response
            except OSError as error:
                raise self._unreachable(error) from error
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

    def _unreachable(self, error: OSError) -> CnfError:
        match error.errno:
            case errno.ENOENT | errno.ENOTDIR:
                state = f"{self._path} does not exist"
            case errno.ECONNREFUSED:
                state = f"nobody listens on {self._path}, it was left behind"
            case errno.EACCES | errno.EPERM:
                return PrivilegeError(f"{self._path}: {error.strerror} (run cnfctl as root{self._or_group()})")
            case _ if isinstance(error, TimeoutError | BlockingIOError):
                return UnavailableError(
                    f"cnfd does not answer on {self._path} within {self._timeout:g} s "
                    "(overloaded or stuck: journalctl -u cnfd)"
                )
            case _:
                return UnavailableError(f"no answer of cnfd on {self._path}: {error.strerror or error}")
        return UnavailableError(
            f"cnfd is not running: {state} (start it: systemctl start cnfd, or name its socket with --socket)"
        )

    def _or_group(self) -> str:
        """Return the other way in, for members of the socket's group, if there is one."""
        try:
            group = grp.getgrgid(Path(self._path).stat().st_gid)
        except (OSError, KeyError):
            return ""
        return f" or as a member of group {group.gr_name}" if group.gr_gid else ""


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    yield from io.BufferedReader(response, _BUFFER)
    if response.length:  # http.client itself notices a missing end in a chunked body only
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
