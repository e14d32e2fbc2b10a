"""Interfaces that stand on others: a packet that passes both is counted on both.

Coming in, it meets the lower one's program first: a native one in its driver, others when the packet enters the stack.
On its way up to a bond, a bridge, or a VLAN device and its like, the packet enters the stack again, and meets the upper
one's program there. Going out, it passes the upper one first, and then the lower one.
A VRF takes the packet over further up, where no program is met; a tunnel's packet inside is another one than the outer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from cnf.direction import Direction
from cnf.kernel.links import Link

# In the kernel's words, IFLA_INFO_KIND: rtnl_link_ops of net/ and drivers/net/.
OVER_MEMBERS: Final = frozenset({"bond", "team", "bridge", "batadv", ""})
"""Kinds whose members name them as master; "" is a failover NIC, which stands on a faster one."""
ON_ONE: Final = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "dsa", "virt_wifi", "rmnet"})
"""Kinds that stand on the one interface that they name as their link."""
SWITCH: Final = "openvswitch"
"""The kind of a switch's ports to this node: these stand on all other ports of the switch, which is their master."""
MEMBERS_RUN_IT: Final = frozenset({"bond", ""})
"""Kinds whose members' drivers run the program, in native mode."""
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
            self._below[link.index].update(index for index in link.ring if index in self._links)
            master = self._links.get(link.master or 0)
            if master is not None and master.kind in OVER_MEMBERS:
                self._below[master.index].add(link.index)
            if link.kind == SWITCH and master is not None:
                ports = (each for each in self._links.values() if each.master == master.index)
                self._below[link.index].update(port.index for port in ports if port.kind != SWITCH)

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

        Where their drivers run its program, that sees the members' ifindex.
        """
        bonds = {index for index in wanted if self._links[index].kind in MEMBERS_RUN_IT}
        return {
            link.index: link.master
            for link in self._links.values()
            if link.master in bonds and link.index not in wanted
        }

    def repetition(self, index: int, attached: Collection[int], direction: Direction = "ingress") -> str | None:
        """Return which packets of ``index`` are counted below, too, given where the program is; None if none are."""
        lower = [self._links[each] for each in sorted(self.below(index)) if each in attached]
        if not lower:
            return None
        link = self._links[index]
        if direction == "egress":
            return f"what it sends is counted here, and on {listed(lower)} once more"
        which = "what it hands to this node" if link.kind == "bridge" else "what it receives"
        return f"{which} is counted, and charged to limits, on {listed(lower)} and here once more"


def listed(links: Collection[Link]) -> str:
    """Return the names of some interfaces, in words."""
    names = ", ".join(link.shown for link in [*links][:SHOWN])
    return f"{names} and {len(links) - SHOWN} more" if len(links) > SHOWN else names


def leave_out(name: str, wanted: str) -> str:
    """Return what to do about the repetition on ``name``, which the entry ``wanted`` of the configuration means."""
    pattern = "" if wanted == name else f", that is, narrow the pattern {wanted}"
    return f"leave {name} out of the interfaces{pattern}"
