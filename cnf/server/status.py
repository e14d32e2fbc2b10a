"""The state of everything, as ``cnfctl status`` and the page show it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cnf.arrays import Records
from cnf.counts import total
from cnf.export.counters import ExportCounters
from cnf.flows.ledger import Ledger
from cnf.history.history import History
from cnf.limiter.limiter import Limiter
from cnf.server.limits_json import waiting
from cnf.server.live import Live
from cnf.server.state import State


def status(state: State, live: Live) -> dict[str, Any]:
    """Return the state of everything as one JSON object."""
    snapshot = state.snapshot
    totals = live.totals()
    return {
        "daemon": {
            **state.build_info,
            "pid": os.getpid(),
            "started": started(state),
            "uptime_seconds": round(time.monotonic() - state.started_monotonic, 3),
            "config": state.config_source,
        },
        "interfaces": [
            {
                **asdict(interface),
                **_counts(totals.get(interface.name)),
            }
            for interface in state.interfaces
        ],
        "flow_table": {
            family: {**asdict(table), "insert_errors": sum(table.insert_errors.values())}
            for family, table in (snapshot.tables.items() if snapshot else ())
        },
        "ledger": _ledger(snapshot.ledgers["ingress"], "received") if snapshot else {},
        "sent_ledger": _ledger(snapshot.ledgers["egress"], "sent") if snapshot else {},
        "drain": {
            "age_seconds": round(state.drain_age(), 3),
            "duration_seconds": round(snapshot.duration, 6) if snapshot else None,
            "interval_seconds": state.settings.flows.drain_interval,
            "errors": state.drain_errors,
            "last_error": state.last_error,
        },
        "records": _records(live),
        "limiter": _limits(live.limiter) if live.limiter else None,
        "rates": _rates(state.rates["ingress"]) | {"drops_per_second": round(state.drops, 3)},
        "sent_rates": _rates(state.rates["egress"]),
    }


def started(state: State) -> str:
    """Return when the daemon started, as RFC 3339 has it, in UTC."""
    return _moment(state.started)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _records(live: Live) -> dict[str, Any] | None:
    """Return what has become of the flow records; None if none are made."""
    if live.record_log is None:
        return None
    kept, lost = live.record_log.kept, total(live.record_log.kept.lost.values())
    return {
        "stream": live.record_log.stream,
        "made": kept.last,
        "lost_packets": lost.packets,
        "lost_bytes": lost.bytes,
        "exporters": [_exporter(counters) for counters in live.exports()],
        "history": _history(live.history) if live.history and live.history.is_on else None,
    }


def _exporter(counters: ExportCounters) -> dict[str, Any]:
    failure = counters.failure
    return {
        "exporter": counters.exporter,
        "records": counters.records,
        "bytes": counters.bytes,
        "lost": counters.lost,
        "waiting": counters.waiting,
        "failing": counters.failing,
        "last_error": {**failure._asdict(), "at": _moment(failure.at)} if failure else None,
    }


def _history(history: History) -> dict[str, Any]:
    return {
        "folder": history.folder,
        "oldest": None if history.oldest is None else _moment(history.oldest),
        "bytes": history.bytes,
        "errors": history.write_errors,
    }


def _limits(limiter: Limiter) -> dict[str, Any]:
    in_force = limiter.in_force
    return {
        "mode": in_force.effective.limits.mode,
        "rules": len(in_force.effective.limits.rules),
        "generation": in_force.generation,
        "protected": [str(prefix) for prefix in in_force.protected],
        "pending": waiting(in_force.run_time),
        "set_errors": limiter.sets.errors(),
        "sources": limiter.tables(),
    }


def _counts(counters: Records | None) -> dict[str, int]:
    """Return what an interface has received and sent."""
    fields = {"received_packets": "packets", "received_bytes": "bytes"}
    fields |= {name: name for name in ("sent_packets", "sent_bytes")}
    return {name: 0 if counters is None else int(counters[field].sum()) for name, field in fields.items()}


def _rates(rates: tuple[float, float]) -> dict[str, float]:
    packets, octets = rates
    return {"packets_per_second": round(packets, 3), "bits_per_second": round(8 * octets, 3)}


def _ledger(ledger: Ledger, seen: str) -> dict[str, dict[str, int]]:
    rows = {seen: ledger.seen, **ledger.states, "difference": ledger.difference}
    return {unit: {name: getattr(count, unit) for name, count in rows.items()} for unit in ("packets", "bytes")}
