"""What flows had counted that is in no record, though they have finished. Pure.

Of flows that are gone, what they had counted is known as a sum. What is recorded of them is what all records have,
less what these have of live flows. The rest is lost: the ring was full, the program tells of no flow that makes room,
or a daemon was killed between the making of records and the noting of their number.

While packets come, a drain does not read all of it at one moment. The sum of flows that are gone is read first, so that
what goes during the drain is missing in it: no more is said to be lost than is, but for flows whose event was about to
be sent. These are told of at the next drain. So what is lost is the lesser of two drains' findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from cnf.abi import DIRECTIONS, Direction
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.ledger import NOTHING, Counts, by_direction, plus

EVERY: Final = 60.0
"""Seconds from one look to the next, at least, as long as nothing seems to be lost."""


class Sums(NamedTuple):
    """What a drain has found."""

    gone: Counts
    """What flows had counted that are not live."""
    live: Counts
    """What is recorded of those that are."""


class Lost:
    """Follow what is recorded, and work out what is lost."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: Counts = NOTHING
        """What is lost; it only grows, and at rest is exact after two looks."""
        self._recorded: Counts | None = NOTHING
        """What all records have; None if nobody knows, until the first look."""
        self._found: Counts = NOTHING
        self._looked: tuple[float, int] | None = None

    def hand_over(self) -> dict[str, Any]:
        """Return what the next daemon must know."""
        return {"recorded": self._recorded and dict(self._recorded), "lost": dict(self.counts)}

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on from what ``hand_over()`` returned: from nothing if it is empty, and not knowing if it is None."""
        if document is None:
            self._recorded = None
        elif document:
            recorded = document["recorded"]
            self._recorded, self.counts = recorded and _counts(recorded), _counts(document["lost"])

    def add(self, records: Iterable[Records]) -> None:
        """Take in what has been recorded: FLOW_RECORD, shape (N,)."""
        for each in records:
            if self._recorded is not None and len(each):
                self._recorded = plus(self._recorded, by_direction(each["flags"], each["packets"], each["bytes"]))

    def is_to_be_looked_for(self, now: float, signs: int) -> bool:
        """Return whether the next drain must tell what is recorded of live flows.

        ``now`` is in seconds. Where ``signs`` is another number than before, something may have been lost.
        """
        if self._looked is None or self._looked[1] != signs or now - self._looked[0] >= EVERY:
            self._looked = now, signs
            return True
        return any(found.packets > self.counts[direction].packets for direction, found in self._found.items())

    def look(self, sums: Sums, *, last: bool) -> Counts:
        """Return what was lost since the look before; in the ``last`` drain nothing counts any more."""
        known = {way: sums.gone[way].plus(sums.live[way]) for way in DIRECTIONS}
        if self._recorded is None:
            self._recorded = {way: known[way].minus(self.counts[way]) for way in DIRECTIONS}
        before = self.counts
        found = {way: known[way].minus(self._recorded[way]) for way in DIRECTIONS}
        confirmed, self._found = found if last else self._found, found
        self.counts = {way: _more(before[way], found[way], confirmed[way]) for way in DIRECTIONS}
        return {way: self.counts[way].minus(before[way]) for way in DIRECTIONS}


def _more(before: Count, *found: Count) -> Count:
    """Return the least of what was found, but no less than before."""
    packets, octets = (min(each) for each in zip(*found, strict=True))
    return Count(max(before.packets, packets), max(before.bytes, octets))


def _counts(document: dict[str, Any]) -> dict[Direction, Count]:
    return {way: Count(*map(int, document[way])) for way in DIRECTIONS}
