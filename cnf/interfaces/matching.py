"""Which interfaces the configuration means, and which of them the program cannot read.

The daemon acts by it, and ``cnfctl doctor`` says by it what the daemon will do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cnf.config import Interface
from cnf.kernel.links import Link, Mode


class Matches(NamedTuple):
    """The interfaces that the configuration's entries mean."""

    requests: Mapping[int, Interface]
    """By ifindex, the first entry that means the interface."""
    missing: Sequence[Interface]
    """Entries that mean no interface."""


def match(links: Collection[Link], wanted: Collection[Interface]) -> Matches:
    """Find the entries of ``wanted`` that mean ``links``, all the interfaces that there are."""
    requests = {
        link.index: request
        for link in links
        if (request := next((each for each in wanted if link.is_meant_by(each.name)), None))
    }
    missing = [request for request in wanted if not any(link.is_meant_by(request.name) for link in links)]
    return Matches(requests, missing)


def unreadable(link: Link, mode: Mode) -> str | None:
    """Return why the program cannot read the packets of ``link`` in this mode; None if it can."""
    if link.is_ethernet or (mode == "tc" and link.is_ip):
        return None
    return f"its frames have no Ethernet header (ARP type {link.hardware})"
