"""The control socket's answers about the past, as JSON objects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cnf.counts import Count
from cnf.errors import UnavailableError
from cnf.flows.snapshot import Snapshot
from cnf.history.past import as_snapshot, dropped_of, summary
from cnf.history.reader import Found, read, text_of
from cnf.server.live import Live


class Past(NamedTuple):
    """What there was between two times."""

    found: Found
    snapshot: Snapshot

    @property
    def dropped(self) -> Count:
        """Return what was dropped."""
        return dropped_of(self.snapshot.received)

    def summary(self) -> dict[str, Any]:
        """Return the sums of all that was counted, as a JSON object."""
        return summary(self.found, self.snapshot)


def past_flows(live: Live, times: tuple[int, int]) -> Past:
    """Return the flows between two times.

    Raises:
        UnavailableError: there is no history of that time.

    """
    found = _found(live, times)
    return Past(found, as_snapshot(found.joined))


def past_sources(
    live: Live, times: tuple[int, int], column: str, count: int | None
) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Return the largest sources by ``column`` between two times, and what else an answer says.

    Raises:
        UnavailableError: there is no history of that time.

    """
    found = _found(live, times)
    sources = sorted(found.joined.held, key=lambda each: int(each[column]), reverse=True)
    sizes = dict.fromkeys(("total", "buckets"), len(sources))
    seconds = found.joined.seconds
    return (_described(source, seconds) for source in sources[:count]), {
        **sizes,
        "history": summary(found, as_snapshot(found.joined)),
    }


def _found(live: Live, times: tuple[int, int]) -> Found:
    if live.history is None:
        remedy = "set history.keep, and restart"
        raise UnavailableError("no history: this cnfd makes no flow records", remedy=remedy)
    return read(live.history.folder, *times, time.time_ns(), live.draining)


def _described(source: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a source with the keys of FIELDS; its rates are those of so many seconds."""
    units = ("packets", "bytes")
    sent, octets = ((source[unit] + source[f"over_{unit}"]) / max(seconds, 1e-3) for unit in units)
    would = {f"would_drop_{unit}": source[f"over_{unit}"] - source[f"dropped_{unit}"] for unit in units}
    return {
        **{name: source[name] for name in ("source", "shared", "rule")},
        "set": None,
        "mode": source["mode"],
        "verdict": "limited" if source["dropped_packets"] else "would_limit",
        **{name: source[name] for name in (*units, *(f"dropped_{unit}" for unit in units))},
        **would,
        "packets_per_second": round(sent, 3),
        "bits_per_second": round(8 * octets, 3),
        **dict.fromkeys((f"tokens_{unit}" for unit in units), None),
        **{name: None if source[name] is None else text_of(source[name]) for name in ("last_over", "last_drop")},
    }
