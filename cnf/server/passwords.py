"""Passwords of HTTP's basic authentication, RFC 7617, checked against bcrypt's hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import bcrypt

from cnf import addresses
from cnf.server.messages import RequestError

MOST_WAITING: Final = 16
"""Passwords that may wait to be checked: each takes some 50 ms of a CPU, on purpose."""
MOST_OF_ONE: Final = 4
"""Of these, the most of one client: one that guesses leaves room for others."""
MOST_KNOWN: Final = 100
"""Right passwords that are remembered."""
IPV6: Final = 6
MOST_BYTES: Final = 72
"""Bytes of a password that bcrypt looks at."""


class Passwords:
    """Check passwords in a thread of its own, one at a time, so that guessing takes no more than one CPU.

    A password that was right is remembered, by a digest: a scrape does not wait for bcrypt, nor for those who guess.
    """

    def __init__(self) -> None:
        """Know none."""
        self._key = os.urandom(32)
        self._known: set[bytes] = set()
        self._waiting: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")

    def close(self) -> None:
        """Check no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def user(self, users: Mapping[bytes, bytes], header: str, address: str) -> str | None:
        """Return the one of ``users`` that the header Authorization names; None without the password of that hash.

        ``address`` is the client's.

        Raises:
            RequestError: too many wait to be told.

        """
        credentials = _credentials(header)
        if credentials is None:
            return None
        user, password = credentials
        # Somebody who is not known takes as long: that there is no such user must not show.
        hashed = users.get(user, next(iter(users.values())))
        digest = hashlib.blake2b(b"\0".join((user, hashed, password)), key=self._key).digest()
        if user in users and digest in self._known:
            return user.decode()
        client = _client(address)
        if self._waiting.total() >= MOST_WAITING or self._waiting[client] >= MOST_OF_ONE:
            message = "too many passwords are being checked at the moment (try again)"
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": "5"})
        self._waiting[client] += 1
        try:
            matches = await asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, hashed)
        finally:
            self._waiting -= Counter({client: 1})  # which leaves out who has none
        if not matches or user not in users:
            return None
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(digest)
        return user.decode()


def _credentials(header: str) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = decoded.partition(b":")
    return (user, password) if colon else None


def _client(address: str) -> str:
    """Return whose address it is: of IPv6, one client may have all of a /64."""
    network = addresses.peer(address)
    return str(network.supernet(new_prefix=64) if network.version == IPV6 else network)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:MOST_BYTES], hashed)
    except ValueError:  # a password with a zero byte
        return False
