"""What is known of the entries of ``allow`` and ``deny`` that were added at run time: who, why, until when. Pure."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple

from attrs import frozen

from cnf.limits.table import PREFIX, Limits, Network
from cnf.readers import Reader, choice, refusal, text

ListName = Literal["allow", "deny"]
_NAMES: Final[tuple[ListName, ...]] = ("allow", "deny")


class Author(NamedTuple):
    """Who makes a change, and when, in seconds since the epoch."""

    who: str
    moment: float


def moment(seconds: float) -> str:
    """Return a time as RFC 3339 has it, in UTC and whole seconds, not before it comes."""
    return f"{datetime.fromtimestamp(math.ceil(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _moment(value: object, path: str) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", value):
        with suppress(ValueError):
            datetime.fromisoformat(value)
            return value
    raise refusal(path, 'a time in UTC such as "2026-03-01T12:00:00Z"', value)


def _end(value: object, path: str) -> str | None:
    return None if value is None else _moment(value, path)


def _reason(value: object, path: str) -> str | None:
    reason: str | None = None if value is None else _PRINTABLE(value, path)
    return reason


def end_of(until: str | None) -> float:
    """Return in seconds since the epoch when something ends; what has no end never does."""
    return datetime.fromisoformat(until).timestamp() if until else math.inf


_LONGEST: Final = 200
_PRINTABLE: Final[Reader] = text(
    f"1 to {_LONGEST} printable characters", lambda words: 1 <= len(words) <= _LONGEST and words.isprintable()
)
MOMENT: Final[Reader] = _moment
END: Final[Reader] = _end
REASON: Final[Reader] = _reason
WHO: Final[Reader] = _PRINTABLE


@frozen
class Entry:
    """One entry."""

    list: Annotated[ListName, choice(ListName), "which list"]
    prefix: Annotated[Network, PREFIX, "what was added"]
    who: Annotated[str, WHO, "the user and process that added it"]
    since: Annotated[str, MOMENT, "when it was added"]
    until: Annotated[str | None, END, "when it ends; without it, never"] = None
    reason: Annotated[str | None, REASON, "what for"] = None

    @property
    def end(self) -> float:
        """Return when it ends, in seconds since the epoch."""
        return end_of(self.until)


def of_list(limits: Limits, name: ListName) -> tuple[Network, ...]:
    """Return the list that is called so."""
    return limits.allow if name == "allow" else limits.deny


def kept(entries: Iterable[Entry], limits: Limits, file: Limits) -> tuple[Entry, ...]:
    """Return the entries that ``limits`` have, and ``file`` has not: what the file says has no end."""
    added = {name: {*of_list(limits, name)} - {*of_list(file, name)} for name in _NAMES}
    return tuple(each for each in entries if each.prefix in added[each.list])
