"""A signal ends the wait and is noted once; nothing else happens in its handler."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cnf.process.signals import LEAVE, Signals

FOREVER = 60.0


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Catch signals for the time of one test."""
    with Signals() as caught:
        yield caught


def raise_signal(number: signal.Signals) -> None:
    """Send a signal to this process, as ``kill`` does."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_ends_the_wait(signals: Signals, number: signal.Signals) -> None:
    """A wait without end returns when the process is asked to stop, and tells by which signal."""
    threading.Timer(0.05, raise_signal, [number]).start()
    signals.wait(None)

    assert signals.stop == number


def test_a_signal_before_the_wait_is_not_missed(signals: Signals) -> None:
    """A wait returns at once if the signal has come already, and so does each one after it."""
    raise_signal(signal.SIGTERM)
    signals.wait(None)
    signals.wait(None)

    assert signals.stop == signal.SIGTERM


def test_the_first_stop_signal_is_the_reason(signals: Signals) -> None:
    """A second one, sent by somebody impatient, changes nothing."""
    raise_signal(signal.SIGINT)
    raise_signal(signal.SIGTERM)
    signals.wait(None)

    assert signals.stop == signal.SIGINT


@pytest.mark.parametrize("order", [(signal.SIGTERM, LEAVE), (LEAVE, signal.SIGTERM)])
def test_a_restart_is_one_whichever_signal_comes_first(signals: Signals, order: tuple[signal.Signals, ...]) -> None:
    """SIGTERM follows SIGUSR2 when systemd restarts the daemon, and different threads may get them."""
    for number in order:
        raise_signal(number)
    signals.wait(None)

    assert signals.stop == LEAVE


def test_a_reload_is_asked_for_once(signals: Signals) -> None:
    """SIGHUP ends the wait, is taken once, and does not stop the daemon."""
    raise_signal(signal.SIGHUP)
    raise_signal(signal.SIGHUP)
    signals.wait(None)

    assert (signals.take_reload(), signals.take_reload(), signals.stop) == (True, False, None)


def test_a_wait_is_over_after_its_time(signals: Signals) -> None:
    """Nothing having come, a wait ends by its timeout, and not before; a negative one is none."""
    begin = time.monotonic()
    signals.wait(0.05)
    waited = time.monotonic() - begin
    signals.wait(-1)

    assert waited >= 0.05
    assert (signals.stop, signals.take_reload()) == (None, False)


def test_a_readable_descriptor_ends_the_wait(signals: Signals) -> None:
    """The daemon waits for its netlink socket and its child in the same place."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"news")
        signals.wait(FOREVER, ours)

        assert ours.recv(16) == b"news"


def test_a_signal_does_not_leave_the_next_wait_awake(signals: Signals) -> None:
    """Once a reload has been taken, a wait lasts its time again."""
    raise_signal(signal.SIGHUP)
    signals.wait(None)
    signals.take_reload()
    begin = time.monotonic()
    signals.wait(0.05)

    assert time.monotonic() - begin >= 0.05


def test_handlers_are_given_back() -> None:
    """Afterwards signals mean what they meant before."""
    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in caught]
    with Signals():
        assert [signal.getsignal(number) for number in caught] != before

    assert [signal.getsignal(number) for number in caught] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_any_thread_ends_the_wait(signals: Signals) -> None:
    """Nothing is noted, and rings that nobody has waited for yet end one wait."""
    for _ in range(1 << 16):  # more than the socket holds
        signals.wake()
    threading.Timer(0.05, signals.wake).start()
    signals.wait(None)
    signals.wait(None)

    assert (signals.stop, signals.take_reload()) == (None, False)


def test_a_thread_that_comes_too_late() -> None:
    """A timer that is under way at the end fails nobody."""
    with Signals() as signals:
        pass
    signals.wake()
