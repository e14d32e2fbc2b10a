"""Settings that a reload cannot change: maps, sockets and the log's form are made once, at the start."""

from __future__ import annotations

from typing import Any, Final

import attrs
from structlog.typing import FilteringBoundLogger

from cnf.config import Settings

FIXED_AT_START: Final = (
    ("flows", ("max_entries", "ipv6", "vlan", "table", "evicted_records")),
    ("metrics", ("listen",)),
    ("control", ("socket", "group")),
    ("log", ("format",)),
    ("limits", ("max_sources", "max_rules", "state_file")),
)


def keep_fixed(
    wanted: Settings, current: Settings, log: FilteringBoundLogger, *, limiter: bool
) -> tuple[Settings, tuple[str, ...]]:
    """Return what is wanted, with all that is fixed as it is, and each key that this takes back; log those.

    Without a ``limiter`` in the program there can be no limits.
    """
    kept: dict[str, Any] = {}
    taken_back = []
    if wanted.max_interfaces != current.max_interfaces:
        taken_back.append("max_interfaces")
        log.warning("changes at a restart only", key="max_interfaces", in_use=current.max_interfaces)
        kept["max_interfaces"] = current.max_interfaces
    for table, keys in FIXED_AT_START:
        new, old = getattr(wanted, table), getattr(current, table)
        if new is None or old is None:
            continue
        for key in keys:
            if getattr(new, key) != getattr(old, key):
                taken_back.append(f"{table}.{key}")
                log.warning("changes at a restart only", key=taken_back[-1], in_use=getattr(old, key))
        kept[table] = attrs.evolve(new, **{key: getattr(old, key) for key in keys})
    if wanted.limits and not limiter:
        taken_back.append("limits")
        log.warning("changes at a restart only", key="limits", in_use=None)
        kept["limits"] = None
    return attrs.evolve(wanted, **kept), tuple(taken_back)
