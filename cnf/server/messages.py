"""HTTP requests and answers as the applications see them, without their connections."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import unquote

from cnf import addresses
from cnf.process.bell import Bell
from cnf.server.sockets import Peer

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
FORWARDED: Final = ("forwarded", "x-forwarded-", "x-real-ip", "via")
"""How the names of proxies' headers begin."""


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request. HEAD is shown as GET; the server leaves out the body of the answer."""

    method: str
    path: str
    """Decoded; bytes that are not UTF-8 are shown with backslashes."""
    query: str = ""
    """Not decoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case; several of one name are joined by commas."""
    body: bytes = b""
    peer: Peer | None = None
    """The process that asks, on a Unix socket."""
    client: str = ""
    """The address that it comes from, over TCP."""
    user: str = ""
    """Who asks, where a password was asked for."""

    @property
    def from_this_node(self) -> bool:
        """Whether the one who asks is on this node, as far as can be told.

        No proxy says that it stands between, and the node is called by an address: a browser here that somebody's page
        has ask (DNS rebinding) says that page's name.
        """
        loopback = bool(self.client) and addresses.peer(self.client).is_loopback
        return loopback and _is_this_node(self.headers.get("host", "")) and not any(map(_is_of_proxy, self.headers))


def _is_this_node(host: str) -> bool:
    """Tell whether a header Host, without which no browser asks, is of the node itself."""
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
    try:
        return name.lower() in ("", "localhost") or ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_of_proxy(header: str) -> bool:
    return header.startswith(FORWARDED)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. A body that is an iterator is made block by block, as the client reads it.

    A body with a bell goes on: after a block of b"" it is asked for the next one when the bell has rung.
    """

    status: HTTPStatus
    body: bytes | Iterator[bytes]
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    bell: Bell | None = None


class RequestError(Exception):
    """Refuse a request with an HTTP status; the application writes the answer."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Take the status, the message and further headers of the answer."""
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


Handler = Callable[[Request], Answer]
Paths = Mapping[str, Mapping[str, Handler]]
"""Handlers by path and method; a handler of GET answers HEAD, too."""


class Application(Protocol):
    """An application of a server, which calls these methods in threads of its own."""

    def answer(self, request: Request) -> Answer:
        """Return the answer. Raises RequestError; any other error is a defect."""
        ...

    def refuse(self, error: RequestError) -> Answer:
        """Return the answer to a request that is refused."""
        ...

    def is_large(self, request: Request) -> bool:
        """Tell whether the answer may be large: only a few of these are written at a time."""
        ...


def target(method: bytes, raw: bytes) -> tuple[str, str, str]:
    """Return method, path and query of a request line. HEAD becomes GET, and a URL its path."""
    text = raw.decode("ascii")
    if text.lower().startswith(("http://", "https://")):
        rest = text.partition("//")[2]
        start = min((place for mark in "/?" if (place := rest.find(mark)) >= 0), default=len(rest))
        text = rest[start:] if rest[start : start + 1] == "/" else f"/{rest[start:]}"
    path, _, query = text.partition("?")
    name = method.decode("ascii")
    return "GET" if name == "HEAD" else name, unquote(path, errors="backslashreplace"), query


def handler(paths: Paths, request: Request) -> Handler:
    """Return the handler of ``request``.

    Raises:
        RequestError: there is no such path, or it does not support the method.

    """
    methods = paths.get(request.path)
    if methods is None:
        raise RequestError(HTTPStatus.NOT_FOUND, f"no such path {request.path!r}: there are {', '.join(paths)}")
    if request.method not in methods:
        allowed = [method for each in methods for method in (("GET", "HEAD") if each == "GET" else (each,))]
        message = f"{request.method} is not supported at {request.path}: expected {' or '.join(allowed)}"
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, message, {"Allow": ", ".join(allowed)})
    return methods[request.method]


def encode(text: str) -> bytes:
    """Return ``text`` in UTF-8; names that hold other bytes are shown with backslashes."""
    return text.encode(errors="backslashreplace")


def reply(document: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Answer with ``document`` as JSON."""
    return Answer(status, encode(json.dumps(document) + "\n"))
