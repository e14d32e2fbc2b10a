"""A capture's end: a failure is not taken for it, and what comes after it harms nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cnf.abi import CAPTURE_RESULTS
from cnf.capture.asked import Asked
from cnf.capture.encoders import LineEncoder
from cnf.capture.reasons import Reasons
from cnf.capture.session import Peer, Session
from cnf.errors import MapError


class Maps:
    """What the kernel seldom does: it refuses, if ``failing``. Itself the ring, with something to read at once."""

    def __init__(self, *, failing: bool) -> None:
        """Begin with something to read."""
        self.ring, self.failing = self, failing
        self.event = os.eventfd(1)
        self.until = -1

    def set(self, *_settings: int) -> None:
        """Take what is copied."""

    def extend(self, until: int) -> None:
        """Take until when."""
        self.until = until

    def counts(self) -> dict[str, int]:
        """Return that nothing has been copied."""
        return dict.fromkeys(CAPTURE_RESULTS, 0)

    def fileno(self) -> int:
        """Return what is always readable."""
        return self.event

    def read(self, _most: int) -> list[bytes]:
        """Return nothing, or refuse."""
        if self.failing:
            raise MapError("no", errno=1)
        return []

    def hide(self, *, hidden: bool) -> None:
        """Take whether the short way is closed."""
        self.hidden = hidden


@contextmanager
def session(*, failing: bool) -> Iterator[tuple[Session, Maps]]:
    """Begin a capture."""
    maps: Any = Maps(failing=failing)
    encoder = LineEncoder(Reasons(None, str))
    try:
        yield Session(Asked(), Peer(0, 1), encoder, maps, maps, dict, lambda: (0, 0), lambda: None), maps
    finally:
        os.close(maps.event)


def test_a_failure_is_no_end() -> None:
    """Who reads is told by an error, and the kernel copies no more."""
    with session(failing=True) as (capture, maps):
        capture.join()
        assert next(capture) == b""
        with pytest.raises(ConnectionError):
            next(capture)
        assert (maps.until, maps.hidden) == (0, False)


def test_an_end_says_what_is_missing() -> None:
    """The last block has it, whoever ends the capture."""
    with session(failing=False) as (capture, maps):
        capture.close()
        capture.join()
        assert b"".join(capture) == b'{"stream": {"frames": 0, "lost": {"over_budget": 0, "ring_full": 0}}}\n'
        assert (maps.until, maps.hidden) == (0, False)


def test_closed_after_its_end_it_touches_nothing() -> None:
    """Its descriptors' numbers are other files' by then, and nothing is written into these."""
    with session(failing=True) as (capture, _maps):
        capture.join()
        others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(8)]
        capture.close()
        for other in others:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(other)
            os.close(other)
