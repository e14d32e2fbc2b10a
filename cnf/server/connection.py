"""One HTTP connection: the protocol by h11, over a stream, within bounds of size and time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11

from cnf.readers import shortened
from cnf.server.messages import Answer, Request, RequestError, target
from cnf.server.sockets import Peer

if TYPE_CHECKING:
    from cnf.server.tls import TlsStream
    from cnf.server.web_config import Tls

HEAD_BYTES: Final = 64 << 10
"""Bytes of a request line with its headers: a filter may be long."""
BODY_BYTES: Final = 64 << 10
BLOCK: Final = 64 << 10
"""Bytes that are given to the kernel at a time: no more of an answer waits in memory for its client."""
READ: Final = 16 << 10
LINGER: Final = 2.0
"""Seconds that a client has to read why its request was refused."""

NextBlock = Callable[[], Awaitable[bytes | None]]
"""Returns the next block of a body, None after the last."""


class CutOffError(ConnectionError):
    """Report that a client has read nothing for too long."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the server waits for a client, in seconds."""

    idle: float = 120.0
    """For the next request."""
    silence: float = 30.0
    """For the rest of a request, and until the client has read a block of an answer."""


class Connection:
    """A connection of one client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: Patience, peer: Peer | None
    ) -> None:
        """Speak HTTP over ``reader`` and ``writer``."""
        self.waiting_since: float | None = None
        """Time of the loop from which on the server waits for the client; None while the client waits."""
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._peer = peer
        address = writer.get_extra_info("peername")
        self.address = str(address[0]) if isinstance(address, tuple) else ""
        """The client's address; nothing on a Unix socket."""
        self._tls: TlsStream | None = None
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._without_body = self._begun = False
        self._deadline = 0.0
        # A writer waits until the kernel has all of a block, so that no more than one is in memory.
        writer.transport.set_write_buffer_limits(high=0)

    @property
    def is_secure(self) -> bool:
        """Tell whether it goes by TLS."""
        return self._tls is not None

    async def secure(self, tls: Tls) -> None:
        """Begin with TLS. Who begins with anything else goes on without.

        Raises:
            TlsError: client and server do not agree, or not in time.

        """
        from cnf.server.tls import HANDSHAKE, TlsError, TlsStream  # noqa: PLC0415 - 5 MB that others need not have

        self.waiting_since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience.silence):
                first = await self._reader.read(READ)
                if first[:1] == bytes([HANDSHAKE]):
                    stream = TlsStream(self._reader, self._writer, tls)
                    await stream.handshake(first)
                    self._tls = stream
                else:
                    self._h11.receive_data(first)
        except TimeoutError:
            raise TlsError(f"not complete within {self._patience.silence:g} s") from None

    async def receive(self) -> Request | None:
        """Return the next request; None if there is none.

        Raises:
            RequestError: it is not HTTP, too large, or not complete in time.

        """
        now = asyncio.get_running_loop().time()
        self.waiting_since, self._deadline = now, now + self._patience.idle
        self._begun = self._without_body = False
        if self._h11.trailing_data[0]:
            self._begin()
        head: h11.Request | None = None
        body = b""
        try:
            while True:
                match await self._next_event():
                    case h11.Request() as head:
                        self._without_body = head.method == b"HEAD"
                        _check_version(head.http_version)
                        _check_length(int(dict(head.headers).get(b"content-length", 0)))
                    case h11.Data(data=data):
                        body += data
                        _check_length(len(body))
                    case h11.EndOfMessage() if head:
                        self.waiting_since = None
                        return replace(_request(head, body), peer=self._peer, client=self.address)
                    case _:  # closed, or nothing came
                        return None
        except TimeoutError:
            message = f"the request was not complete within {self._patience.silence:g} s"
            raise RequestError(HTTPStatus.REQUEST_TIMEOUT, message) from None
        except h11.RemoteProtocolError as error:
            words = re.sub(r"bytearray\(b(.*)\)", r"\1", str(error))  # Python's words for what has come
            message = f"not a request of HTTP/1.1: {shortened(words, 200)}"
            raise RequestError(HTTPStatus(error.error_status_hint), message) from None

    async def send(self, answer: Answer, next_block: NextBlock, *, last: bool = False) -> None:
        """Send an answer, the ``last`` one if the connection cannot go on; a body in blocks comes from ``next_block``.

        Raises:
            ConnectionError: the client is gone, or has been cut off.

        """
        whole = answer.body if isinstance(answer.body, bytes) else None
        headers = [("Date", formatdate(usegmt=True)), ("Content-Type", answer.kind), *answer.headers.items()]
        if whole is not None:
            headers.append(("Content-Length", str(len(whole))))
        if last:
            headers.append(("Connection", "close"))
        start = self._send(h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase))
        if self._without_body:
            await self._write(start + self._send(h11.EndOfMessage()))
            return
        if whole is None:
            while (block := await next_block()) is not None:
                await self._write(start + self._send(h11.Data(data=block)))
                start = b""
        else:
            for place in range(0, len(whole), BLOCK):
                await self._write(start + self._send(h11.Data(data=whole[place : place + BLOCK])))
                start = b""
        await self._write(start + self._send(h11.EndOfMessage()))

    def go_on(self) -> bool:
        """Prepare for the next request; tell whether there may be one."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def closed(self) -> None:
        """Wait until the client closes; what it still sends is no more request."""
        with suppress(OSError):
            while await self._read():
                pass

    def finish(self) -> None:
        """Tell the client that nothing follows."""
        if self._tls:
            self._tls.close()
            self._tls = None

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._writer.transport.abort()

    async def linger(self) -> None:
        """Let a client that is still sending read the last answer, which a reset would discard."""
        self.finish()
        self._writer.write_eof()
        self.waiting_since = asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while await self._reader.read(READ):
                    pass

    async def _next_event(self) -> h11.Event | None:
        """Return the next event of h11; None if no request begins. Raises TimeoutError if one stays incomplete."""
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                self._put(self._send(h11.InformationalResponse(status_code=100, headers=[])))
            try:
                async with asyncio.timeout_at(self._deadline):
                    data = await self._read()
            except TimeoutError:
                if self._begun:
                    raise
                return None
            if not self._begun:
                self._begin()
            self._h11.receive_data(data)
        return event if isinstance(event, h11.Event) else None

    def _begin(self) -> None:
        """Start the time that a request has to be complete, at its first byte."""
        self._begun = True
        self._deadline = asyncio.get_running_loop().time() + self._patience.silence

    def _send(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""

    async def _read(self) -> bytes:
        return await (self._tls or self._reader).read(READ)

    def _put(self, data: bytes) -> None:
        (self._tls or self._writer).write(data)

    async def _write(self, data: bytes) -> None:
        self._put(data)
        self.waiting_since = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience.silence):
                await self._writer.drain()
        except TimeoutError:
            raise CutOffError(f"it has read nothing for {self._patience.silence:g} s") from None
        if self._writer.is_closing():
            raise ConnectionError("closed meanwhile")
        self.waiting_since = None


def _check_version(version: bytes) -> None:
    if not version.startswith(b"1."):
        message = f"HTTP/{version.decode()} is not supported: expected HTTP/1.1"
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, message)


def _check_length(length: int) -> None:
    if length > BODY_BYTES:
        message = f"the request's body is longer than {BODY_BYTES} bytes"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _request(head: h11.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    method, path, query = target(head.method, head.target)
    return Request(method, path, query, headers, body)
