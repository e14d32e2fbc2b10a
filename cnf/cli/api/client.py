"""Requests to cnfd: HTTP and JSON over its Unix socket. Every failure is an error of one clear line."""

from __future__ import annotations

import errno
import http.client
import io
import json
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from cnf.cli.api.check import check
from cnf.cli.api.event_replies import KINDS, Event
from cnf.cli.api.limit_replies import Change, Explanation, Limits, PrefixSets, Source, Sources
from cnf.cli.api.replies import Ended, Flow, Flows, Groups, Pairs, Refusal, Reloaded, Status
from cnf.cli.api.socket_groups import groups
from cnf.cli.api.stream_replies import About, AboutCapture, AboutEvents, AboutRecords, CapturedFrame
from cnf.errors import CnfError, ConfigError, KernelError, PrivilegeError, UnavailableError, UsageError

TIMEOUT: Final = 10.0
"""Seconds that the daemon may be silent: it sorts a million flows in a fraction of a second."""
TURN: Final = 4
"""Factor of TIMEOUT for a listing of everything: cnfd writes only a few of these at a time."""


class DaemonConfigError(CnfError):
    """Pass on the daemon's own line about its configuration, or a change to it."""

    exit_status = ConfigError.exit_status


_SMALLER: Final = "name fewer prefixes at once; thousands are for a file: [[limits.sets]]"
_ERRORS: Final[dict[int, type[CnfError]]] = {
    error.exit_status: error for error in (UsageError, UnavailableError, KernelError, PrivilegeError, DaemonConfigError)
}
_BUFFER: Final = 1 << 16
_ABOUT: Final = b'{"stream": '
LISTINGS: Final = ("/v1/flows", "/v1/limits/sources", "/v1/export")

Query = Mapping[str, str | int]
Request = Mapping[str, object]
"""A request for a change, sent as JSON."""
Reply = TypeVar("Reply")
AboutT = TypeVar("AboutT", bound=About | AboutCapture)
Item = TypeVar("Item")
Wait = Callable[[socket.socket], None]
"""Returns when there is something to read."""


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

    def sets(self) -> PrefixSets:
        """Return the sets of prefixes, and what each has counted."""
        return self._document("/v1/limits/sets", {}, PrefixSets)

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

    def events(self, query: Query, wait: Wait | None) -> Generator[AboutEvents | list[Event], None, None]:
        """Yield the events that ``query`` (after, top) selects and those that come, each time those that are there.

        ``wait`` is called before each reading. It ends with the connection.
        """
        return self._stream("/v1/events", {**query, "follow": 1}, AboutEvents, _event, wait)

    def records(self, query: Query, wait: Wait | None) -> Generator[AboutRecords | list[bytes], None, None]:
        """Yield the lines of the records that ``query`` (since, filter) selects, and with ``wait`` of those that come.

        ``wait`` is called before each reading. It ends with the connection.
        """
        query = {**query, "follow": 1} if wait else query
        return self._stream("/v1/export", query, AboutRecords, bytes, wait)

    def capture(self, query: Query, wait: Wait) -> Iterator[bytes]:
        """Yield a capture in pcapng as it comes, and first b"", once it has begun.

        ``query`` is which, filter, count, snaplen, budget and format.
        """
        with self._answer("/v1/capture", query, {}, wait) as response:
            yield b""
            while block := _some(response, ends_well=False):
                yield block

    def captured(self, query: Query, wait: Wait) -> Iterator[AboutCapture | list[CapturedFrame]]:
        """Yield the packets of a capture, each time those that are there, and in the end what is missing.

        First come none, once it has begun.
        """
        return self._stream("/v1/capture", query, AboutCapture, _captured, wait, {})

    def end_capture(self) -> bool:
        """End the capture that there is; return whether there was one."""
        return self._document("/v1/capture/end", {}, Ended, {})["ended"]

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

    def _stream(  # noqa: PLR0913, PLR0917 - the last one is for what is POSTed
        self,
        path: str,
        query: Query,
        kind: type[AboutT],
        read: Callable[[bytes], Item],
        wait: Wait | None,
        request: Request | None = None,
    ) -> Generator[AboutT | list[Item], None, None]:
        """Yield what a stream's lines say of it, ``kind``, and each run of lines between, as ``read`` returns them."""
        with self._answer(path, query, request, wait) as response:
            rest = b""
            goes_on = wait is not None and kind is not AboutCapture  # a capture has an end of its own
            if kind is AboutCapture:
                yield []
            while block := _some(response, ends_well=goes_on):
                *lines, rest = (rest + block).split(b"\n")
                items = []
                for line in lines:
                    if not line.startswith(_ABOUT):
                        items.append(read(line))
                        continue
                    if items:
                        yield items
                        items = []
                    about: AboutT = json.loads(line)["stream"]
                    check(about, kind)
                    yield about
                if items:
                    yield items

    @contextmanager
    def _answer(
        self, path: str, query: Query, request: Request | None = None, wait: Wait | None = None
    ) -> Iterator[http.client.HTTPResponse]:
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
                if wait:
                    connection.wait_by(wait)
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
        remedy = _SMALLER if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else ""
        return _ERRORS.get(refusal["exit_status"], UnavailableError)(refusal["error"], remedy=remedy)

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
            f"cnfd is not running, or still starting: {state}",
            remedy="systemctl status cnfd shows which; start it: systemctl start cnfd, or name its socket by --socket",
        )

    def _or_group(self) -> str:
        """Return the hint that members of some groups may use the socket, if they may."""
        try:
            return "".join(f" or as a member of group {name}" for name in groups(self._path))
        except OSError:
            return ""


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    yield from io.BufferedReader(response, _BUFFER)
    _check_end(response)


def _check_end(response: http.client.HTTPResponse) -> None:
    if response.length:  # http.client notices a missing end of chunked bodies only
        nothing_more = b""
        raise http.client.IncompleteRead(nothing_more, response.length)


def _some(response: http.client.HTTPResponse, *, ends_well: bool) -> bytes:
    """Return what has arrived, at least a byte, or b"" at the end; where ``ends_well``, a broken connection is one."""
    try:
        if not (block := response.read1(_BUFFER)):
            _check_end(response)
    except (http.client.IncompleteRead, ConnectionError):
        if ends_well:
            return b""
        raise
    return block


def _event(line: bytes) -> Event:
    event: Event = json.loads(line)
    check(event, Event)
    check(event, KINDS.get(event["event"], Event))
    return event


def _captured(line: bytes) -> CapturedFrame:
    frame: CapturedFrame = json.loads(line)
    check(frame, CapturedFrame)
    return frame


class _Socket(socket.socket):
    """A socket that has somebody else wait for what is to be read."""

    wait: Wait | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ANN401 - before Python 3.12
        if self.wait:
            self.wait(self)
        return super().recv_into(buffer, nbytes, flags)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = self._socket = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def wait_by(self, wait: Wait) -> None:
        """Have ``wait`` called before each reading, from now on; it may take as long as it likes."""
        self._socket.wait = wait
