"""Questions to rtnetlink, with a stand-in for the kernel: it seldom interrupts a list, or is silent."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final, Self

import pytest

from cnf.kernel.rtnetlink import HEADER, INTERFACE, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, TRIES, ask

RTM_NEWLINK: Final = 16
Kernel = Callable[[list[list[bytes]]], None]


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Return a message of the kernel."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


def link(ifindex: int, flags: int = 0) -> bytes:
    """Return what is said of an interface: nothing but that it is there."""
    return message(RTM_NEWLINK, INTERFACE.pack(0, 1, ifindex, 0, 0), flags)


def end(code: int = 0, kind: int = NLMSG_DONE) -> bytes:
    """Return the end of an answer."""
    return message(kind, struct.pack("=i", code))


class Answered:
    """A socket whose one question is answered already."""

    def __init__(self, answer: list[bytes]) -> None:
        """Have these datagrams to be received."""
        self._answer = answer

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing."""

    def settimeout(self, _seconds: float) -> None:
        """Be told how long to wait."""

    def send(self, _question: bytes) -> None:
        """Take the question."""

    def recv(self, _size: int) -> bytes:
        """Return the next datagram; after the last there is none in time."""
        if not self._answer:
            raise TimeoutError("timed out")
        return self._answer.pop(0)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return what has the next questions answered, each by these datagrams."""

    def answer(answers: list[list[bytes]]) -> None:
        waiting = iter(answers)
        monkeypatch.setattr(socket, "socket", lambda *_: Answered(list(next(waiting))))

    return answer


def test_a_list_that_was_interrupted_is_asked_for_again(kernel: Kernel) -> None:
    """Where interfaces came or went meanwhile, one that stays may be missing: the list counts when it is whole."""
    kernel([[link(1) + link(2, NLM_F_DUMP_INTR), end()], [link(1), link(2), link(3) + end()]])
    assert [found.ifindex for found in ask()] == [1, 2, 3]


def test_a_list_that_is_always_interrupted(kernel: Kernel) -> None:
    """A list that is never whole is an error, after some tries."""
    kernel([[link(1), message(NLMSG_DONE, bytes(4), NLM_F_DUMP_INTR)]] * TRIES)
    with pytest.raises(InterruptedError):
        ask()


@pytest.mark.parametrize("kind", [NLMSG_ERROR, NLMSG_DONE])
def test_a_refusal_has_the_kernels_number(kernel: Kernel, kind: int) -> None:
    """What the kernel refuses, at once or behind half a list, is an OSError of its number."""
    kernel([[link(1), end(-errno.ENOBUFS, kind)]])
    with pytest.raises(OSError, match="No buffer space") as refusal:
        ask()
    assert refusal.value.errno == errno.ENOBUFS


def test_silence_is_not_waited_for(kernel: Kernel) -> None:
    """An answer that does not come to its end in time is an OSError."""
    kernel([[link(1)]])
    with pytest.raises(TimeoutError):
        ask()
