"""An alarm calls when it was last set to, once, in a thread that holds up no end of the process."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Final

from cnf.process.alarm import Alarm

LONG: Final = 60.0
"""More seconds than a test lasts."""


def test_the_latest_time_counts() -> None:
    """Of an alarm that is set again the call comes once, when it was set to last; and once more if set again."""
    called = SimpleQueue[threading.Thread]()
    alarm = Alarm(lambda: called.put(threading.current_thread()))
    alarm.set(LONG)
    alarm.set(0)
    thread = called.get(timeout=LONG)
    assert thread.daemon
    thread.join(LONG)
    assert called.empty()
    alarm.set(0)
    assert called.get(timeout=LONG) is not thread


def test_a_cancelled_alarm_is_silent() -> None:
    """What is cancelled is not called, and can be set again; to cancel what is not set does no harm."""
    called = SimpleQueue[str]()
    alarm = Alarm(lambda: called.put("called"))
    alarm.cancel()
    before = set(threading.enumerate())
    alarm.set(LONG)
    (timer,) = set(threading.enumerate()) - before
    alarm.cancel()
    timer.join(LONG / 2)
    assert not timer.is_alive()
    assert called.empty()
    alarm.set(0)
    assert called.get(timeout=LONG) == "called"
