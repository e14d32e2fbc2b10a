"""The HTTP servers: one thread moves bytes for all clients, by asyncio, and a few threads run the application.

A client that is idle, slow, or does not read costs a descriptor and a few kilobytes. It does not hold up others, and is
the first to be disconnected when another client wants its place.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from structlog.typing import FilteringBoundLogger

from cnf.process.bell import Bell
from cnf.server.connection import READ, Connection, CutOffError, Patience
from cnf.server.messages import Answer, Application, Request, RequestError
from cnf.server.places import Places
from cnf.server.sockets import peer_of

if TYPE_CHECKING:
    from cnf.server.access import Access

RETRY: Final = 0.5
"""Seconds until the next attempt to accept a connection, where a descriptor or memory is lacking."""
CLIENTS_FAULT: Final = {errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR}
"""Errors of accept(2) that are about one connection only."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that all clients of a server may take together."""

    connections: int = 256
    large: int = 8
    """Large answers that are written at a time."""
    queue: float | None = None
    """Seconds that a request for a large answer waits for its turn before it is refused; None: without end."""
    grace: float = 0.5
    """Seconds after which an idle connection may be closed for another one."""
    stall: float = 1.0
    """Seconds after which a large answer that its client does not read may be broken off for another one."""
    followers: int = 16
    """Answers that go on, at a time."""
    farewell: float = 1.0
    """Seconds that their clients have at the end, to read what there is."""
    threads: int = 2
    patience: Patience = field(default_factory=Patience)


class Web:
    """A server that runs for the length of a ``with`` block."""

    def __init__(  # noqa: PLR0913 - the last one is for one server of two
        self,
        name: str,
        listeners: Sequence[socket.socket],
        application: Application,
        bounds: Bounds,
        log: FilteringBoundLogger,
        *,
        access: Access | None = None,
    ) -> None:
        """Serve ``application`` on listening sockets, which the caller closes.

        Without ``access``, whoever connects is answered, and not by TLS.
        """
        self._name = name
        self._listeners = listeners
        self._application = application
        self._bounds = bounds
        self._log = log
        self._access = access
        self._workers = ThreadPoolExecutor(bounds.threads, thread_name_prefix=name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._main: asyncio.Task[None] | None = None
        self._followers: set[asyncio.Event] = set()
        """What wakes each answer that goes on."""
        self._owed: set[socket.socket] = set()
        """Clients that have connected, or asked, and have no answer yet."""
        self._accepting: list[asyncio.Task[None]] = []
        self._ending = False

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accept no more, answer who has asked, end the answers that go on, close all connections, and stop."""
        if self._main is not None:
            with suppress(RuntimeError, TimeoutError, CancelledError):
                asyncio.run_coroutine_threadsafe(self._say_farewell(), self._loop).result(self._bounds.farewell)
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                asyncio.run(self._serve_all())
        except Exception as error:  # noqa: BLE001 - the daemon goes on counting
            self._log.error("http server failed", server=self._name, error=repr(error))
        finally:
            self._started.set()

    async def _serve_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        bounds = self._bounds
        self._places = Places(bounds.connections, bounds.grace, self._disconnected)
        self._large = Places(bounds.large, bounds.stall, self._disconnected)
        async with asyncio.TaskGroup() as tasks:
            for listener in self._listeners:
                listener.settimeout(0)
                self._accepting.append(tasks.create_task(self._accept(listener, tasks)))
            self._started.set()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        """Accept connections while there are places; others wait in the kernel."""
        while True:
            try:
                client, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in CLIENTS_FAULT:
                    self._log.warning("connection not accepted", server=self._name, error=error.strerror)
                    self._places.relieve()
                    await asyncio.sleep(RETRY)
                continue
            with ExitStack() as stack:
                stack.enter_context(client)
                await self._places.wait()
                stack.pop_all()
            self._owed.add(client)
            tasks.create_task(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        """Answer one client, which has a place."""
        try:
            with client:
                await self._talk(client)
        except CutOffError as error:
            self._log.info("client cut off", server=self._name, reason=str(error))
        except OSError:
            pass  # the client has closed the connection
        except Exception as error:  # noqa: BLE001 - a defect must not harm other clients
            self._log.error("connection failed", server=self._name, error=repr(error))
        finally:
            self._owed.discard(client)
            self._places.give_back()

    async def _talk(self, client: socket.socket) -> None:
        peer = peer_of(client) if client.family == socket.AF_UNIX else None
        reader = asyncio.StreamReader(READ)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        connection = Connection(reader, writer, self._bounds.patience, peer)
        with self._places.held(connection):
            try:
                if await self._greet(connection):
                    await self._converse(connection, client)
                    connection.finish()
            finally:
                connection.abort()

    async def _greet(self, connection: Connection) -> bool:
        """Begin with TLS, if that is asked for; tell whether client and server agree."""
        if not self._access or not (tls := self._access.tls):
            return True
        from cnf.server.tls import TlsError  # noqa: PLC0415 - 5 MB that others need not have

        try:
            await connection.secure(tls)
        except TlsError as error:
            self._access.refused["handshake"] += 1
            self._log.info("tls handshake failed", server=self._name, address=connection.address, reason=str(error))
            return False
        return True

    async def _admit(self, connection: Connection, request: Request) -> Request | None:
        """Return a request with who asks; None if that one may not ask, and has its answer."""
        if not self._access:
            return request
        try:
            user = await self._access.admit(request, secure=connection.is_secure)
        except RequestError as error:
            self._log.info("request refused", server=self._name, address=connection.address, reason=str(error))
            await self._send(connection, self._application.refuse(error))
            return None
        return replace(request, user=user)

    async def _converse(self, connection: Connection, client: socket.socket) -> None:
        going_on = True
        while going_on:
            try:
                request = await connection.receive()
            except RequestError as error:
                await self._send(connection, self._application.refuse(error), last=True)
                await connection.linger()
                return
            if request is None:
                return
            self._owed.add(client)
            request = await self._admit(connection, request)
            if request is None:
                pass
            elif self._application.is_large(request):
                await self._answer_large(connection, request)
            else:
                answer = await self._ask(request)
                if answer.bell:
                    await self._follow(connection, answer, answer.bell)
                else:
                    await self._send(connection, answer)
            self._owed.discard(client)
            going_on = connection.go_on() and not self._ending

    async def _answer_large(self, connection: Connection, request: Request) -> None:
        """Answer once there is a place for one more large answer."""
        try:
            async with asyncio.timeout(self._bounds.queue):
                await self._large.wait()
        except TimeoutError:
            message = f"{self._bounds.large} answers as large as this one are being sent at the moment (try again)"
            busy = RequestError(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": "5"})
            await self._send(connection, self._application.refuse(busy))
            return
        try:
            with self._large.held(connection):
                await self._send(connection, await self._ask(request))
        finally:
            self._large.give_back()

    async def _follow(self, connection: Connection, answer: Answer, bell: Bell) -> None:
        """Send an answer that goes on, until the client leaves or the server ends."""
        if len(self._followers) >= self._bounds.followers:
            _close(answer)
            message = f"{self._bounds.followers} clients follow already (end one of them, and try again)"
            busy = RequestError(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": "5"})
            await self._send(connection, self._application.refuse(busy))
            return
        more = asyncio.Event()
        self._followers.add(more)
        gone = self._loop.create_task(connection.closed())
        gone.add_done_callback(lambda _gone: more.set())
        blocks = answer.body
        assert not isinstance(blocks, bytes)  # noqa: S101 - only what is made block by block goes on

        async def next_block() -> bytes | None:
            while True:
                more.clear()
                if gone.done():
                    raise ConnectionError("closed meanwhile")
                block: bytes | None = await self._in_thread(next, blocks, None)
                if block != b"":
                    return block
                if self._ending:
                    _close(answer)  # it may have an end that is still to come
                await more.wait()

        try:
            with bell.heard_by(lambda: self._loop.call_soon_threadsafe(more.set)):
                await connection.send(self._with_headers(answer), next_block, last=True)
        finally:
            gone.cancel()
            self._followers.discard(more)
            _close(answer)

    async def _say_farewell(self) -> None:
        """Accept no more: who waits in the kernel is the next daemon's, if the socket stays. Answer who is here."""
        self._ending = True
        for task in self._accepting:
            task.cancel()
        while self._followers or self._owed:
            for more in self._followers:
                more.set()
            await asyncio.sleep(0.01)

    async def _ask(self, request: Request) -> Answer:
        try:
            return await self._in_thread(self._application.answer, request)
        except RequestError as error:
            return self._application.refuse(error)
        except Exception as error:  # noqa: BLE001 - the client gets a line, and the daemon lives
            self._log.error("request failed", server=self._name, path=request.path, error=repr(error))
            message = f"cnfd failed to answer: {error!r} (this is a defect of cnfd)"
            return self._application.refuse(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, message))

    async def _send(self, connection: Connection, answer: Answer, *, last: bool = False) -> None:
        body = answer.body
        blocks = iter(()) if isinstance(body, bytes) else body

        async def next_block() -> bytes | None:
            return await self._in_thread(next, blocks, None)

        await connection.send(self._with_headers(answer), next_block, last=last)

    def _with_headers(self, answer: Answer) -> Answer:
        """Return an answer with the headers that all are to have."""
        if not self._access or not self._access.headers:
            return answer
        return replace(answer, headers={**self._access.headers, **answer.headers})

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        return await self._loop.run_in_executor(self._workers, function, *arguments)

    def _disconnected(self) -> None:
        self._log.info("slow client disconnected, another one wants its place", server=self._name)


def _close(answer: Answer) -> None:
    """Tell the body of an answer that goes on, if it wants to know, that nobody reads it any more."""
    if close := getattr(answer.body, "close", None):
        with suppress(ValueError):  # a generator that is at work
            close()
