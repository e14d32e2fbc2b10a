"""Times of the past as people type them, and what cnfd is asked for then."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from cnf.errors import UsageError

EXAMPLES: Final = "03:12, 'yesterday 03:12', '2026-03-01 03:12' or 2026-03-01T03:12:00Z"
_TIME: Final = re.compile(
    r"(?:(today|yesterday|\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)? ?(Z|[+-]\d\d:\d\d)?"
)
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)


class Time(NamedTuple):
    """A time as it was typed: in local time, unless there is a zone."""

    day: str
    """Empty: that of the latest such time of day."""
    hour: int
    minute: int
    second: int | None
    zone: tzinfo | None

    def moment(self, now: datetime, after: datetime | None = None) -> datetime:
        """Return the time in question: without a day the latest before ``now``, or the first behind ``after``."""
        today = now.astimezone(self.zone).date()
        match self.day:
            case "" if after is not None:
                return self._first(after.astimezone(self.zone).date(), lambda moment: moment > after)
            case "":
                return self._first(today, lambda moment: moment <= now, -_DAY)
            case "today" | "yesterday":
                return self._on(today - (_DAY if self.day == "yesterday" else timedelta()))
            case _:
                return self._on(date.fromisoformat(self.day))

    def _first(self, day: date, fits: Callable[[datetime], bool], step: timedelta = _DAY) -> datetime:
        moment = self._on(day)
        return moment if fits(moment) else self._on(day + step)

    def _on(self, day: date) -> datetime:
        moment = datetime(day.year, day.month, day.day, self.hour, self.minute, self.second or 0, tzinfo=self.zone)
        return moment.astimezone(UTC)


def time(text: str) -> Time:
    """Read a time."""
    found = _TIME.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        day, hour, minute, second, zone = found.groups()
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").tzinfo if zone else None
        read = Time(day or "", int(hour), int(minute), int(second) if second else None, offset)
        read.moment(datetime.now(UTC))
    except (ValueError, OverflowError):
        message = f"a time such as {EXAMPLES} is expected, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return read


def add_times(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a time of the past."""
    for name, place, meaning in (
        ("--at", "at", f"what that minute had: {EXAMPLES}"),
        ("--from", "begin", "what there was from then on, until --to"),
        ("--to", "end", "(default: now)"),
    ):
        parser.add_argument(name, dest=place, metavar="TIME", type=time, default=None, help=meaning)


def asked(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what cnfd is asked for: nothing for the present. Raises UsageError."""
    at, begin, end = arguments.at, arguments.begin, arguments.end
    now = datetime.now(UTC)
    if at and (begin or end):
        raise UsageError("--at is one minute: expected without --from and --to")
    if end and not begin:
        raise UsageError("--to expects --from")
    if at:
        first = at.moment(now)
        last = first + (_MINUTE if at.second is None else timedelta(seconds=1))
    elif begin:
        first = begin.moment(now)
        last = end.moment(now, first) if end else now
    else:
        return {}
    if first >= last:
        raise UsageError("--from is not before --to")
    return {"from": first.isoformat(), "to": last.isoformat()}
