"""Interfaces that stand on others: what comes in through both is seen on both, below first.

A native program runs in the driver of the lower one, a generic one when the packet enters the stack. On its way up to a
bond, a bridge, or a VLAN device and its like, the packet enters the stack again, and meets the generic program there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from cnf.kernel.links import Link

OVER_MEMBERS: Final = ("bond", "bridge", "team")
ON_ONE: Final = ("ipvlan", "macvlan", "vlan")
SHOWN: Final = 3
"""Lower interfaces that a warning names; a bridge has hundreds of ports."""


class Stacks:
    """Which of the interfaces of a namespace stand on which."""

    def __init__(self, links: Iterable[Link]) -> None:
        """Work it out for ``links``, all that there are."""
        self._links = {link.index: link for link in links}
        self._below: dict[int, set[int]] = {index: set() for index in self._links}
        for link in self._links.values():
            if link.kind in ON_ONE and link.lower in self._links:
                self._below[link.index].add(link.lower)
            master = self._links.get(link.master or 0)
            if master is not None and master.kind in OVER_MEMBERS:
                self._below[master.index].add(link.index)

    def below(self, index: int) -> set[int]:
        """Return all that the interface stands on, down to the last."""
        found: set[int] = set()
        waiting = {index}
        while waiting:
            waiting = set().union(*(self._below[each] for each in waiting)) - found
            found |= waiting
        return found

    def upwards(self, indexes: Iterable[int]) -> list[int]:
        """Return ``indexes``, lower ones first: the kernel takes no program below one that is there already."""
        return sorted(indexes, key=lambda index: len(self.below(index)))

    def members(self, wanted: Collection[int]) -> Mapping[int, int]:
        """Return the members of the bonds among ``wanted`` that are not wanted themselves: their bond, by ifindex.

        In native mode a bond has its members' drivers run the program, which then sees the members' ifindex.
        """
        bonds = {index for index in wanted if self._links[index].kind == "bond"}
        return {
            link.index: link.master
            for link in self._links.values()
            if link.master in bonds and link.index not in wanted
        }

    def repetition(self, index: int, attached: Collection[int]) -> str | None:
        """Return which packets of ``index`` are counted below already, given where the program is; None if none are."""
        lower = [self._links[each] for each in sorted(self.below(index)) if each in attached]
        if not lower:
            return None
        link = self._links[index]
        which = "what it hands to this node" if link.kind == "bridge" else "what it receives"
        names = ", ".join(each.shown for each in lower[:SHOWN])
        more = f" and {len(lower) - SHOWN} more" if len(lower) > SHOWN else ""
        return f"{which} is counted, and charged to limits, on {names}{more} and here once more"
