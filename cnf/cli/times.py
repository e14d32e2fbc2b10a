"""Times of the past as people type them, and what cnfd is asked for then."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from cnf.errors import UsageError

EXAMPLES: Final = "03:12, 'yesterday 03:12', '2026-03-01 03:12', 2026-03-01T03:12:00Z or '2h ago'"
_TIME: Final = re.compile(
    r"(?:(today|yesterday|\d{4}-\d\d-\d\d)[ T])?(\d{1,2}):(\d\d)(?::(\d\d)(?:\.\d+)?)? ?(Z|[+-]\d\d:\d\d)?"
)
_AGO: Final = re.compile(r"(\d{1,5}) ?([smhd]) ago")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
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


class Ago(NamedTuple):
    """A time so long ago."""

    lapse: timedelta
    second: int | None
    """None: that minute is meant."""
    day: str = ""

    def moment(self, now: datetime, after: datetime | None = None) -> datetime:  # noqa: ARG002 - as the others have it
        """Return the time in question."""
        moment = (now - self.lapse).replace(microsecond=0)
        return moment.replace(second=0) if self.second is None else moment


def time(text: str) -> Time | Ago:
    """Read a time."""
    found, ago = _TIME.fullmatch(text.strip()), _AGO.fullmatch(text.strip())
    if ago:
        return Ago(timedelta(**{_UNITS[ago[2]]: int(ago[1])}), 0 if ago[2] == "s" else None)
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
        if end and not end.day and last.astimezone().date() > now.astimezone().date():  # the first one behind it
            raise UsageError("--from is not before --to")
    else:
        return {}
    if first > now:
        raise UsageError(f"{first.astimezone():%Y-%m-%d %H:%M:%S %Z} is still to come")
    if first >= last:
        raise UsageError("--from is not before --to")
    return {"from": first.isoformat(), "to": last.isoformat()}
