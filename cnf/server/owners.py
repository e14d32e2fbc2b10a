"""Owners of the socket at the local end of a flow: systemd units, containers and pods."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from cnf.errors import UsageError
from cnf.flows.query import Selection
from cnf.kernel.cgroups import Cgroups, owner
from cnf.kernel.rtnetlink import is_local
from cnf.kernel.sockets import PROTOCOLS, End, Sockets

FIELDS: Final = ("owner", "uid")
"""What a flow has beside its other fields: both null without a socket, ``owner`` if nobody knows the cgroup."""
MOST: Final = 10_000
"""Flows whose owners are looked for in one answer: it takes half a second."""

_NUMBERS: Final = {name: number for number, name in PROTOCOLS.items()}


def with_owners(selection: Selection, cgroups: Cgroups) -> Iterator[dict[str, Any]]:
    """Yield the flows, or connections, with FIELDS; the sockets are those of now.

    Raises:
        UsageError: there are more than MOST.
        UnavailableError: the kernel cannot tell whose a socket is.

    """
    if len(selection.row) > MOST:
        raise UsageError(f"owners of {len(selection.row):,} flows: expected at most {MOST:,}, with top")
    return _described(selection, cgroups)


def _described(selection: Selection, cgroups: Cgroups) -> Iterator[dict[str, Any]]:
    indexes = {name: index for index, name in sorted(selection.snapshot.names.items())}
    here = cache(is_local)
    with Sockets() as sockets:
        for flow in selection.flows():
            local, remote = ("src", "dst") if flow["direction"] == "egress" else ("dst", "src")
            number = None if flow["fragment"] else _NUMBERS.get(flow["protocol"])
            found = None
            if number is not None and here(flow[f"{local}_addr"]):
                near, far = (End(flow[f"{end}_addr"], flow[f"{end}_port"]) for end in (local, remote))
                found = sockets.find(number, near, far, indexes.get(flow["interface"], 0))
            path = cgroups.path(found.cgroup) if found else None
            yield {**flow, "owner": path and owner(path), "uid": found and found.uid}
