"""A server of cnf.server.http in this process, with an application that a test steers, and clients of it."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Final, cast

from structlog.typing import FilteringBoundLogger

from cnf.process.bell import Bell
from cnf.server.access import Access
from cnf.server.http import Bounds, Web
from cnf.server.messages import TEXT, Answer, Paths, Request, RequestError, handler

BLOCK: Final = b"x" * (64 << 10)
DEFAULT: Final = Bounds()
PATIENCE: Final = 20
"""Seconds for what takes milliseconds."""


class Log:
    """The log lines of a server."""

    def __init__(self) -> None:
        """Have none."""
        self.lines: queue.SimpleQueue[tuple[str, dict[str, object]]] = queue.SimpleQueue()

    def error(self, event: str, **context: object) -> None:
        """Take a line."""
        self.lines.put((event, context))

    info = warning = error


@dataclass
class Application:
    """Answer at a few paths."""

    made: int = 0
    """Blocks of endless answers."""
    asked: list[Request] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    """What /held waits for."""
    holding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Counts who waits."""
    bell: Bell = field(default_factory=Bell)
    told: list[bytes] = field(default_factory=list)
    """What /followed has told and tells, each time that the bell rings."""

    def __post_init__(self) -> None:
        """Name the paths."""
        self._paths: Paths = {
            "/": {"GET": lambda _request: Answer(HTTPStatus.OK, b"small\n", TEXT)},
            "/body": {"GET": self._body, "POST": self._body},
            "/large": {"GET": lambda _request: Answer(HTTPStatus.OK, 100 * BLOCK, TEXT)},
            "/blocks": {"GET": lambda _request: Answer(HTTPStatus.OK, self._blocks(100), TEXT)},
            "/endless": {"GET": lambda _request: Answer(HTTPStatus.OK, self._blocks(1 << 40), TEXT)},
            "/held": {"GET": self._held},
            "/followed": {"GET": lambda _request: Answer(HTTPStatus.OK, self._told(), TEXT, bell=self.bell)},
            "/defect": {"GET": self._defect},
        }

    def answer(self, request: Request) -> Answer:
        """Answer."""
        self.asked.append(request)
        return handler(self._paths, request)(request)

    def refuse(self, error: RequestError) -> Answer:
        """Answer with the message."""
        return Answer(error.status, f"{error}\n".encode(), TEXT, error.headers)

    def is_large(self, request: Request) -> bool:
        """Tell by the path."""
        return request.path in {"/large", "/blocks", "/endless"}

    def _body(self, request: Request) -> Answer:
        return Answer(HTTPStatus.OK, request.body, TEXT)

    def _blocks(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            self.made += 1
            yield BLOCK

    def tell(self, *lines: bytes) -> None:
        """Tell those who follow."""
        self.told += lines
        self.bell.ring()

    def _told(self) -> Iterator[bytes]:
        yield b"first\n"
        for number in count():
            while number == len(self.told):
                yield b""
            yield self.told[number]

    def _held(self, _request: Request) -> Answer:
        self.holding.release()
        assert self.hold.wait(PATIENCE)
        return Answer(HTTPStatus.OK, b"held\n", TEXT)

    def _defect(self, _request: Request) -> Answer:
        raise ZeroDivisionError("by zero")


class Server:
    """The server, and who connects to it."""

    def __init__(self, listener: socket.socket) -> None:
        """Remember where it listens."""
        self.application = Application()
        self.log = Log()
        self.access: Access | None = None
        self.address = listener.getsockname()

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """Return a connection."""
        client = socket.socket(socket.AF_INET)
        client.settimeout(PATIENCE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(self.address)
        return client

    def ask(self, data: bytes) -> bytes:
        """Return all that comes until the end, when ``data`` has been sent as far as it is taken."""
        with self.connect() as client:
            with suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            return everything(client)


@contextmanager
def serving(bounds: Bounds = DEFAULT, web_config: Path | None = None) -> Iterator[Server]:
    """Serve on a port of 127.0.0.1 for the length of the block; the server may not have failed by its end."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = Server(listener)
        log = cast("FilteringBoundLogger", server.log)
        access = Access(web_config, log) if web_config else None
        server.access = access
        with Web("test", [listener], server.application, bounds, log, access=access):
            try:
                yield server
            finally:
                server.application.hold.set()
                if access:
                    access.close()
    while not server.log.lines.empty():
        assert server.log.lines.get()[0] not in {"connection failed", "http server failed"}


def everything(client: socket.socket, *, may_be_reset: bool = False) -> bytes:
    """Return all that comes until the end, which is a reset where the server needs the place before we hang up."""
    data = b""
    with suppress(ConnectionResetError) if may_be_reset else nullcontext():
        while block := client.recv(1 << 20):
            data += block
    return data


def get(path: str, *headers: str, method: str = "GET", close: bool = True) -> bytes:
    """Return a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def status(answer: bytes) -> int:
    """Return the status of an answer's first line."""
    return int(answer.split()[1])


def headers(answer: bytes) -> dict[str, str]:
    """Return the header fields of the first answer, names in lower case."""
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
