"""The lines of answers that go on as types."""

from __future__ import annotations

from typing import TypedDict

from cnf.cli.api.replies import Amount, Timestamp


class About(TypedDict):
    """What a line with the key ``stream`` says: which stream this is, and what of it is missing.

    ``at`` is the number to go on after, ``missed`` how many are not kept any more since the line before.
    """

    id: int
    started: Timestamp
    at: int
    last: int
    missed: int


class AboutEvents(About):
    """``lost`` counts, by kind, the events that have found the ring full since it was made."""

    lost: dict[str, int]


class AboutRecords(About):
    """``lost`` counts, by direction, what is in no record of flows that have finished since the daemon began."""

    lost: dict[str, Amount]
