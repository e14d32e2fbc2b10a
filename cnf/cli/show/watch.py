"""Show something repeatedly: in place on a terminal, as top does, or one after the other in a stream."""

from __future__ import annotations

import codecs
import itertools
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Final, NoReturn, Protocol

from cnf.cli.show.table import style_for
from cnf.errors import CnfError
from cnf.units import clock_time, printable, wrap

RETRY: Final = 1.0
"""Seconds between requests to a daemon that did not answer: it may be restarting."""

# xterm's control sequences: alternate screen, cursor shown, lines wrapped; "h" sets and "l" resets.
_TAKE: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_GIVE_BACK: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Watched(Protocol):
    """What is shown on a screen."""

    def frame(self, terminal: os.terminal_size) -> list[str]:
        """Return the lines for a terminal's size. Raises CnfError."""

    def press(self, keys: str) -> bool:
        """Take the keys that were pressed; return False to end."""


def on_screen(watched: Watched, seconds: float) -> None:
    """Redraw what is ``watched`` every ``seconds``, at any key and at a new size, until a key ends it.

    The first CnfError of a frame is raised; later ones, as while the daemon restarts, are shown above the latest lines,
    and it is tried again.
    """
    size = shutil.get_terminal_size()
    lines = watched.frame(size)
    with _take_over() as screen:
        notice: list[str] = []
        while True:
            screen.draw([*notice, *lines], size)
            keys = screen.wait(min(seconds, RETRY) if notice else seconds)
            if keys is None or (keys and not watched.press(keys)):
                return
            size = shutil.get_terminal_size()
            try:
                lines, notice = watched.frame(size), []
            except CnfError as error:
                notice = _notice(error, size.columns)


def as_stream(show: Callable[[int], None], seconds: float) -> None:
    """Call ``show(number of earlier calls)`` every ``seconds``. A later CnfError is shown on stderr, and it goes on."""
    failing = False
    for shown in itertools.count():
        try:
            show(shown)
            sys.stdout.flush()
            failing = False
        except CnfError as error:
            if shown == 0:
                raise
            if not failing:
                print(f"cnfctl: {printable(str(error))}; trying again", file=sys.stderr)
            failing = True
        time.sleep(min(seconds, RETRY) if failing else seconds)


def _notice(error: CnfError, width: int) -> list[str]:
    style = style_for(sys.stdout)
    text = f"{clock_time(datetime.now(UTC))}  {printable(str(error))}; trying again"
    return [style.warn(line) for line in wrap(text, width, whole_words=False)] + [""]


class _Screen:
    """A terminal that has been taken over."""

    def __init__(self, keys: int | None, signals: int) -> None:
        self._keys = keys
        self._signals = signals
        self._modes = termios.tcgetattr(keys) if keys is not None else []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character

    def take(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)
        self._write(_TAKE)

    def give_back(self) -> None:
        if self._keys is not None:
            # A background job that is ended would be stopped here, and never end.
            before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
            signal.signal(signal.SIGTTOU, before)
        self._write(_GIVE_BACK)

    def draw(self, lines: list[str], size: os.terminal_size) -> None:
        """Show ``lines`` from the top, in one write; a line is cleared before its text, which may fill it."""
        parts = [f"\x1b[K{line}" for line in lines[: size.lines]]
        if len(parts) < size.lines:
            parts.append("\x1b[J")
        self._write("\x1b[H" + "\n".join(parts))

    def wait(self, seconds: float) -> str | None:
        """Wait for the time to pass, a key or a new size; return the keys, None when the terminal is gone."""
        sources = [self._signals] if self._keys is None else [self._signals, self._keys]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._signals in ready and signal.SIGTSTP in os.read(self._signals, 64):
            self.give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self.take()
        if self._keys in ready:
            pressed = os.read(self._keys, 1 << 10)
            return self._decoder.decode(pressed) if pressed else None
        return ""

    def _write(self, text: str) -> None:
        # Not through sys.stdout: at a signal, its buffer might hold half a frame.
        left = memoryview(text.encode(sys.stdout.encoding, "replace"))
        while left:
            left = left[os.write(sys.stdout.fileno(), left) :]


@contextmanager
def _take_over() -> Iterator[_Screen]:
    """Take over the terminal, and restore it at the end, be it by return, exception, ^C, SIGTERM or SIGHUP."""
    with ExitStack() as undo:
        signals, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, signals)
        undo.callback(os.close, wake)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(wake, warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGHUP):
            undo.callback(signal.signal, number, signal.signal(number, _end))
        for number in (signal.SIGWINCH, signal.SIGTSTP):
            undo.callback(signal.signal, number, signal.signal(number, _only_wake))
        keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        screen = _Screen(keys, signals)
        undo.callback(screen.give_back)
        screen.take()
        yield screen


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor, which has the signal's number, interrupts the wait."""
