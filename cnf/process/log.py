"""The log: events of structlog, ``logging`` and ``warnings`` as lines on one stream.

structlog hands its events to ``logging``, whose one handler makes and writes the lines: whatever goes wrong there ends
there, and the code that logs does not notice.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import ClassVar, Final, TextIO

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor

from cnf.config import LogFormat, LogLevel
from cnf.process import systemd
from cnf.process.repeats import Repeats

PATIENCE: Final = 0.05
"""Seconds that a line waits for a reader who is behind."""


def configure(level: LogLevel, output: LogFormat, stream: TextIO) -> None:
    """Send every event of ``level`` and above to ``stream``, a file with a descriptor.

    ``output`` is ``console``, ``json``, or ``auto``: console on a terminal, else JSON. Before the first call, structlog
    prints to stdout. A later call replaces what an earlier one has set.
    """
    terminal = stream.isatty()
    console = output == "console" or (output == "auto" and terminal)
    rendering: list[Processor] = [JSONRenderer()]
    if console:
        rendering = [_escape, structlog.dev.ConsoleRenderer(colors=terminal, sort_keys=False)]
    handler = _LineHandler(stream)
    handler.setFormatter(ProcessorFormatter(processors=[ExceptionRenderer(_tell_exception), _order, *rendering]))
    logging.getLogger().handlers = [handler]
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _tell_unraisable  # what nobody can catch would go to stderr as it is
    for library in ("asyncio", "pyroute2"):  # at level debug, they tell of their own insides
        logging.getLogger(library).setLevel(logging.WARNING)
    set_level(level)
    structlog.configure(
        processors=[ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def set_level(level: LogLevel) -> None:
    """Let events of ``level`` and above through from now on."""
    logging.getLogger().setLevel(level.upper())


def lost_lines() -> int:
    """Return how many lines could not be made or written since the process started."""
    return _LineHandler.lost


def suppressed_lines() -> int:
    """Return how many lines were left out since the process started, because too many like them had come."""
    return _LineHandler.suppressed


class _LineHandler(logging.Handler):
    """Write each record as a line to the descriptor, and count those that fail; never wait for a reader who is stuck.

    No buffer: one would keep the lines of a full disk and write them later, among others. The descriptor stays as it
    is, since other processes have its file description, too: O_NONBLOCK would be theirs as well.
    """

    lost: ClassVar[int] = 0
    suppressed: ClassVar[int] = 0

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._stuck = False
        self._cut = False
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:  # the caller, handle(), holds the handler's lock
        if record.levelno > logging.DEBUG:  # whoever wants debug events wants all of them
            left_out = self._repeats.admit(_kind(record), time.monotonic())
            if left_out is None:
                _LineHandler.suppressed += 1
                return
            record.left_out = left_out
        written = False
        with contextlib.suppress(Exception):
            line = f"{systemd.priority(record.levelno, self._stream)}{self.format(record)}\n"
            written = self._write(line.encode(errors="backslashreplace"))
        if not written:
            _LineHandler.lost += 1

    def _write(self, line: bytes) -> bool:
        """Write ``line``, which stands alone even after one that was cut off; return whether there was room for it."""
        descriptor = self._stream.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        # For a reader who is stuck, one line waits; the next ones find out for nothing that there is no room.
        deadline = time.monotonic() + (0 if self._stuck else PATIENCE)
        rest = b"\n" * self._cut + line
        while rest:
            # A pipe or socket that polls as writable takes PIPE_BUF bytes at once, and more might wait for the reader.
            self._stuck = not poll.poll(max(0, deadline - time.monotonic()) * 1000)
            if self._stuck:
                return False
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
            self._cut = bool(rest)
        return True


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    """Return what lines have in common of which too many are too many: the event, and the interface if it is of one."""
    if isinstance(record.msg, dict):
        return str(record.msg.get("event")), str(record.msg.get("interface", ""))
    return record.name, record.pathname, record.lineno


def _tell_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log an exception that has nobody to go to, such as one of an object's end."""
    error = unraisable.exc_value or unraisable.exc_type()
    logging.getLogger("python").warning("exception ignored in %r", unraisable.object, exc_info=error)


def _tell_exception(exc_info: ExcInfo) -> str:
    """Return the whole traceback when debug events are let through, else the exception alone, in one line."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        return "".join(traceback.format_exception(*exc_info)).rstrip()
    return " ".join(f"{exc_info[0].__name__}: {exc_info[1]}".split())


def _order(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put timestamp, level and event first; a context key of such a name gets an underscore behind it."""
    record: logging.LogRecord = event.pop("_record")
    text = str(event.pop("event"))
    if not event.pop("_from_structlog"):  # asyncio, warnings: sentences, at times of several lines
        text = " ".join(text.split())
        event = {"logger": record.name, **event}
    head = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": record.levelname.lower(),
        "event": _plain(text),
    }
    if left_out := getattr(record, "left_out", 0):
        event = {**event, "left_out": left_out}
    return head | {f"{key}_" if key in head else key: _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    """Return ``value`` as what JSON has; numpy's numbers are numbers, undecodable bytes get backslashes."""
    match value:
        case None | bool():
            return value
        case Integral():
            return int(value)
        case Real() if math.isfinite(value):
            return float(value)
        case Mapping():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
    data = value if isinstance(value, bytes) else str(value).encode(errors="backslashreplace")
    return data.decode(errors="backslashreplace")


def _escape(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Keep control characters, such as an interface's name may hold, away from the terminal."""
    return {key: _printable(value, key) if isinstance(value, str) else value for key, value in event.items()}


def _printable(text: str, key: str) -> str:
    kept = "\n" if key == "exception" else ""
    return "".join(
        char if char.isprintable() or char == kept else char.encode("unicode_escape").decode() for char in text
    )
