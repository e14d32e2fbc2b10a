"""The control socket's answers about the limits, as JSON objects."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from cnf.abi import DROP_REASONS, VERDICTS
from cnf.arrays import Records
from cnf.counts import Count
from cnf.limiter.in_force import NOTHING_DENIED, InForce, Look, SetCounts
from cnf.limiter.limiter import Limiter
from cnf.limiter.sets import set_moment
from cnf.limiter.sources import Sources, describe, merge_largest, of_denied, of_set, sort_column
from cnf.limits.confirmation import RunTime
from cnf.limits.entries import ListName, of_list
from cnf.limits.table import NO_TABLE, Network, Rule


def rules(limiter: Limiter) -> dict[str, Any]:
    """Return the limits in force, and what each rule has counted."""
    look = limiter.look()
    in_force = look.in_force
    file, limits = in_force.file, in_force.effective.limits
    mode_origin = origin_of(limits.mode, (file.mode,))
    if mode_origin == "file" and file == NO_TABLE:
        mode_origin = "no table [limits]"
    of_file, names = frozenset(file.rules), {rule.name for rule in limits.rules}
    return {
        "mode": limits.mode,
        "mode_origin": mode_origin,
        "unreadable": limits.unreadable,
        "generation": in_force.generation,
        "allow": listed_rows(in_force, "allow", limits.allow),
        "deny": denied_rows(limiter, in_force, limits.deny),
        "protected": [str(prefix) for prefix in in_force.protected],
        "pending": waiting(in_force.run_time),
        "set_errors": limiter.sets.errors(),
        "removed": [rule.name for rule in file.rules if rule.name not in names],
        "rules": [rule_row(look, rule, origin_of(rule, of_file)) for rule in limits.rules],
        "sources": limiter.tables(),
    }


def sets(limiter: Limiter) -> list[dict[str, Any]]:
    """Return the sets of prefixes, what was read of their files, and what each has counted."""
    limits, counts = limiter.in_force.effective.limits, limiter.sets.counts()
    rows = []
    for file in limiter.sets.files:
        counted = counts.get((file.set.name, file.set.action), SetCounts())
        rows.append(
            {
                "name": file.set.name,
                "file": file.set.file,
                "action": file.set.action,
                "mode": limits.mode_of(file.set),
                "prefixes": len(file.prefixes),
                "loaded": file.loaded and set_moment(file.loaded),
                "refused_lines": file.refused_lines,
                "error": file.error,
                "error_since": file.error_since and set_moment(file.error_since),
                **counted.decided._asdict(),
                "in_shadow": counted.in_shadow._asdict(),
            }
        )
    return rows


def change(limiter: Limiter, body: object, uid: int, pid: int) -> dict[str, Any]:
    """Make the change in ``body``, and return what has changed."""
    changes, in_force = limiter.change(body, uid, pid)
    return {
        "changes": list(changes),
        "mode": in_force.effective.limits.mode,
        "pending": waiting(in_force.run_time),
        "protected": [str(prefix) for prefix in in_force.protected],
        "generation": in_force.generation,
    }


def waiting(run_time: RunTime) -> list[dict[str, Any]]:
    """Return the changes that wait for a confirmation, as JSON objects."""
    now = time.monotonic()
    return [
        {
            "number": each.number,
            "seconds_left": round(each.seconds_left(now), 3),
            "who": each.who,
            "change": each.words,
        }
        for each in run_time.pending
    ]


def sources(
    limiter: Limiter, sort: str, count: int | None, *, everyone: bool
) -> tuple[Iterator[dict[str, Any]], dict[str, int]]:
    """Return the ``count`` sources (all if None) that are largest by ``sort``, as they are asked for, and of how many.

    They are the buckets, the denied prefixes and the sets that deny, of which a packet was held back; with ``everyone``
    all buckets.

    Raises:
        UsageError: there is no such key to sort by.

    """
    column, drained = sort_column(sort), limiter.sources
    if drained is None:
        return iter(()), {"total": 0, "buckets": 0}
    shared = [held for held in limiter.shared() if held.in_use]
    denied = [of_denied(network, denied, limiter.denied_rate(network)) for network, denied in limiter.denied().items()]
    in_sets = [of_set(each, counts, rate) for each, counts, rate in limiter.denying_sets()]
    others = [held for held in (*shared, *denied, *in_sets) if held.held_back or (everyone and held.shared)]
    others.sort(key=lambda held: int(held.value[column]), reverse=True)
    buckets = islice(merge_largest(column, drained.largest(column, count, held_back=not everyone), others), count)
    now, in_force = limiter.read_clock(), limiter.in_force
    described = (
        describe(held, limiter.bucket_rule, in_force.listed(held.source) if held.source else None, drained, now)
        for held in buckets
    )
    return described, {
        "total": drained.count(held_back=not everyone) + len(others),
        "buckets": drained.count(held_back=False) + len(shared),
    }


def denied(limiter: Limiter, totals: Mapping[str, Records]) -> dict[str, int]:
    """Return how many prefixes are denied, and what that has dropped since the start, of ``totals`` by interface.

    What was dropped by prefixes that are denied no more is among it.
    """
    limits, reason = limiter.in_force.effective.limits, DROP_REASONS.index("denied")
    units = {unit: sum(int(each[f"dropped_{unit}"][reason]) for each in totals.values()) for unit in Count._fields}
    return {"prefixes": 0 if limits.mode == "off" else len(limits.deny), **units}


def listed_rows(in_force: InForce, name: ListName, networks: Sequence[Network]) -> list[dict[str, Any]]:
    """Return entries of a list, each with its origin and what is known of it."""
    known = frozenset(of_list(in_force.file, name))
    entries = {each.prefix: each for each in in_force.effective.entries if each.list == name}
    return [
        {"prefix": str(network), "origin": origin_of(network, known)}
        | {word: getattr(entries.get(network), word, None) for word in ("who", "since", "until", "reason")}
        for network in dict.fromkeys(networks)
    ]


def denied_rows(limiter: Limiter, in_force: InForce, networks: Sequence[Network]) -> list[dict[str, Any]]:
    """Return entries of ``deny``, each with what it has dropped, and whether it has since the drain before."""
    denied, drained = limiter.denied(), limiter.sources
    rows: list[dict[str, Any]] = []
    for network, listed in zip(dict.fromkeys(networks), listed_rows(in_force, "deny", networks), strict=True):
        entry, rate = denied.get(network, NOTHING_DENIED), limiter.denied_rate(network)
        rows.append(
            listed
            | entry.dropped._asdict()
            | {"packets_per_second": round(rate.packets, 3), "bits_per_second": round(8 * rate.bytes, 3)}
            | {"first_seen": _moment(entry.first_seen, drained), "last_seen": _moment(entry.last_seen, drained)}
            | {"sending": bool(drained and entry.last_seen >= max(drained.before, 1))}
        )
    return rows


def _moment(jiffies: int, drained: Sources | None) -> str | None:
    return drained.clock.texts(np.array([jiffies], np.uint64))[0] if jiffies and drained else None


def origin_of(setting: object, of_file: Collection[object]) -> str:
    """Return where a rule, an entry or the mode comes from."""
    return "file" if setting in of_file else "runtime"


def rule_row(look: Look, rule: Rule, origin: str | None) -> dict[str, Any]:
    """Return a rule, and what it has counted."""
    return {
        "name": rule.name,
        "origin": origin,
        "prefixes": [str(prefix) for prefix in rule.prefixes],
        "packets_per_second": rule.packets_per_second,
        "burst_packets": rule.packets.burst if rule.packets else None,
        "bits_per_second": rule.bits_per_second,
        "burst_bytes": rule.octets.burst if rule.octets else None,
        "bursts_left_open": [
            name
            for name, rate in (("burst_packets", rule.packets), ("burst_bytes", rule.octets))
            if rate and getattr(rule, name) is None
        ],
        "bucket": rule.bucket,
        "protocols": list(rule.protocols),
        "interfaces": list(rule.interfaces),
        "mode": look.in_force.effective.limits.mode_of(rule),
        **_rule_end(look, rule),
        **{verdict: count._asdict() for verdict, count in zip(VERDICTS, look.counts[rule.name], strict=True)},
    }


def _rule_end(look: Look, rule: Rule) -> dict[str, Any]:
    """Return until when a rule is so, what it is after that, and who has set it so."""
    end = next((each for each in look.in_force.effective.rule_ends if each.name == rule.name), None)
    if end is None:
        return dict.fromkeys(("until", "after", "who", "since", "reason"))
    after = end.after(look.in_force.file)
    return {
        "until": end.until,
        "after": after
        and {
            "packets_per_second": after.packets_per_second,
            "burst_packets": after.packets.burst if after.packets else None,
            "bits_per_second": after.bits_per_second,
            "burst_bytes": after.octets.burst if after.octets else None,
        },
        "who": end.who,
        "since": end.since,
        "reason": end.reason,
    }
