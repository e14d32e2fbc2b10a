"""TLS over a stream. OpenSSL works on bytes in memory, so that bounds of time and size are those of the stream."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from cnf.server.web_config import Tls, openssl_words

READ: Final = 16 << 10
HANDSHAKE: Final = 0x16
"""The first byte of a client that speaks TLS, and of no request of HTTP."""

Result = TypeVar("Result")


class TlsError(ConnectionError):
    """Report why TLS with a client failed."""


class TlsStream:
    """The server's end of TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: Tls) -> None:
        """Speak over ``reader`` and ``writer``."""
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = tls.context.wrap_bio(self._received, self._to_send, server_side=True)

    async def handshake(self, first: bytes) -> None:
        """Shake hands with a client that has sent ``first``.

        Raises:
            TlsError: client and server do not agree, or its certificate will not do.

        """
        self._received.write(first)
        try:
            await self._do(self._object.do_handshake)
        except ssl.SSLError as error:
            raise TlsError(_words(error)) from None
        if not self._tls.admits(self._object.getpeercert()):
            raise TlsError("the client's certificate has none of the names of client_allowed_sans")

    async def read(self, most: int) -> bytes:
        """Return what comes next, at most so many bytes; b"" at the end. Raises ConnectionError."""
        try:
            return await self._do(lambda: self._object.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise TlsError(_words(error)) from None

    def write(self, data: bytes) -> None:
        """Hand ``data`` to the stream."""
        if data:
            self._object.write(data)
            self._flush()

    def close(self) -> None:
        """Tell the client that nothing follows."""
        with suppress(ssl.SSLError):
            self._object.unwrap()
        self._flush()

    async def _do(self, step: Callable[[], Result]) -> Result:
        """Do a step of OpenSSL's, with as many bytes from the client as it takes. Raises ssl.SSLError."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush()  # answers, and alerts
            if data := await self._reader.read(READ):
                self._received.write(data)
            else:
                self._received.write_eof()

    def _flush(self) -> None:
        if data := self._to_send.read():
            self._writer.write(data)


def _words(error: ssl.SSLError) -> str:
    """Return why TLS failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate: {error.verify_message}"
    return openssl_words(error)
