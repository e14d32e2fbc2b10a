"""The control socket's answers about the limits, as JSON objects."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Any, Final, get_args

import numpy as np

from cnf.abi import DROP_REASONS, FRAGMENTS, TRAFFIC, VERDICTS
from cnf.addresses import unmapped
from cnf.arrays import Records
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.query import select
from cnf.flows.snapshot import Snapshot
from cnf.limiter.in_force import NOTHING_DENIED, InForce, InSet, Look, SetCounts
from cnf.limiter.limiter import Limiter
from cnf.limiter.sets import set_moment
from cnf.limiter.sources import Held, Sources, describe, merge_largest, of_denied, of_set, sort_column
from cnf.limits.confirmation import RunTime
from cnf.limits.entries import ListName, of_list
from cnf.limits.groups import OVERFLOW, Cell
from cnf.limits.ruleset import Address, Explanation
from cnf.limits.table import NO_TABLE, Limits, Network, Rule, Traffic
from cnf.readers import shown

EXPLAINED_FLOWS: Final = 10

_FAMILY_TRAFFIC: Final = {
    version: {
        name: tuple(each for each, of in FRAGMENTS.items() if of != other) if name == "fragment" else (name,)
        for name in get_args(Traffic)
        if name != other
    }
    for version, other in ((4, "icmpv6"), (6, "icmp"))
}
"""By version of IP: what a rule can name, and what of TRAFFIC that is."""


def rules(limiter: Limiter) -> dict[str, Any]:
    """Return the limits in force, and what each rule has counted."""
    look = limiter.look()
    in_force = look.in_force
    file, limits = in_force.file, in_force.effective.limits
    mode_origin = _origin(limits.mode, (file.mode,))
    if mode_origin == "file" and file == NO_TABLE:
        mode_origin = "no table [limits]"
    of_file, names = frozenset(file.rules), {rule.name for rule in limits.rules}
    return {
        "mode": limits.mode,
        "mode_origin": mode_origin,
        "unreadable": limits.unreadable,
        "generation": in_force.generation,
        "allow": _listed(in_force, "allow", limits.allow),
        "deny": _denied_rows(limiter, in_force, limits.deny),
        "protected": [str(prefix) for prefix in in_force.protected],
        "pending": waiting(in_force.run_time),
        "set_errors": limiter.sets.errors(),
        "removed": [rule.name for rule in file.rules if rule.name not in names],
        "rules": [_rule(look, rule, _origin(rule, of_file)) for rule in limits.rules],
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


def explanation(limiter: Limiter, snapshot: Snapshot, address: str, protocol: str, interface: str) -> dict[str, Any]:
    """Return what happens to packets from ``address``, and why; protocol and interface may be empty, for all.

    Raises:
        UsageError: one of the three means nothing here.

    """
    source, zone = _address(address)
    if zone and interface not in ("", zone):
        raise UsageError(f"{shown(address)} is an address on {shown(zone)}, not on {shown(interface)}")
    interface = interface or zone
    look = limiter.look()
    known = limiter.interfaces
    if interface and interface not in known:
        raise UsageError(f"interface {shown(interface)} is not tracked: expected one of {', '.join(known) or 'none'}")
    traffic = _FAMILY_TRAFFIC[source.version]
    if protocol and protocol not in traffic:
        raise UsageError(f"protocol {shown(protocol)}: expected one of {', '.join(traffic)}")
    cases: dict[Explanation, list[Cell]] = {}
    for name in [interface] if interface else known or [OVERFLOW]:
        for each in [protocol] if protocol else traffic:
            for cell in traffic[each]:
                cases.setdefault(look.in_force.explain(source, name, cell), []).append((name, cell))
    flows = select(snapshot, f"src host {source}", "bytes", None)
    dropped = Count(flows.sum("dropped_packets"), flows.sum("dropped_bytes"))
    return {
        "address": str(source),
        "protocol": protocol or None,
        "interface": interface or None,
        "cases": [_case(limiter, look, source, explained, cells) for explained, cells in cases.items()],
        "flows": list(islice(flows.flows(), EXPLAINED_FLOWS)),
        "dropped": dropped._asdict(),
    }


def _case(
    limiter: Limiter, look: Look, source: Address, explained: Explanation, cells: Sequence[Cell]
) -> dict[str, Any]:
    in_sets = [*look.in_force.in_sets(ip_network(source))]
    if explained.verdict in ("limited", "unlimited") and in_sets and in_sets[0].mode == "enforce":
        return _case_of_set(in_sets[0], source, cells)
    rule, origin = explained.rule, _origin_of(look.in_force.file, explained)
    off = explained.verdict == "unlimited" and look.in_force.effective.limits.mode == "off"
    return {
        "interfaces": sorted({name for name, _ in cells} - {OVERFLOW}),
        "protocols": _protocols(source, {each for _, each in cells}),
        "verdict": "off" if off else explained.verdict,
        "prefix": str(explained.prefix) if explained.prefix else None,
        "origin": origin,
        "rule": _rule(look, rule, origin) if rule else None,
        "set": None,
        "in_shadow": [f"{each.set.action} {each.prefix} of {each.set.name}" for each in in_sets[:1]]
        if explained.verdict in ("limited", "unlimited")
        else [],
        "reason": "limits.mode is off" if off else _reason(explained),
        "bucket": _bucket(limiter, look.in_force, source, explained) if rule else None,
        "entry": next(iter(_denied_rows(limiter, look.in_force, [explained.prefix])), None)
        if explained.verdict == "denied" and explained.prefix
        else None,
        "allow_entry": _listed(look.in_force, "allow", [explained.prefix])[0]
        if explained.verdict == "allowed" and explained.prefix
        else None,
    }


def _case_of_set(found: InSet, source: Address, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the verdict of a set on some of an address's traffic."""
    return {
        "interfaces": sorted({name for name, _ in cells} - {OVERFLOW}),
        "protocols": _protocols(source, {each for _, each in cells}),
        "verdict": found.verdict,
        "prefix": str(found.prefix),
        "origin": "file",
        "rule": None,
        "set": found.set.name,
        "in_shadow": [],
        "reason": f"{found.prefix} is in the set {found.set.name} ({found.set.file}); sets go before every rule",
        "bucket": None,
        "entry": None,
        "allow_entry": None,
    }


def _protocols(source: Address, traffic: set[str]) -> list[str]:
    """Name ``traffic``, fragments by one word if all are there; else those that are not with what they are of."""
    names = [each for each in TRAFFIC if each in traffic and each not in FRAGMENTS]
    if traffic.issuperset(_FAMILY_TRAFFIC[source.version]["fragment"]):
        return [*names, "fragment"]
    return [*names, *(each for each, protocol in FRAGMENTS.items() if each in traffic and protocol not in names)]


def _listed(in_force: InForce, name: ListName, networks: Sequence[Network]) -> list[dict[str, Any]]:
    known = frozenset(of_list(in_force.file, name))
    entries = {each.prefix: each for each in in_force.effective.entries if each.list == name}
    return [
        {"prefix": str(network), "origin": _origin(network, known)}
        | {word: getattr(entries.get(network), word, None) for word in ("who", "since", "until", "reason")}
        for network in dict.fromkeys(networks)
    ]


def _denied_rows(limiter: Limiter, in_force: InForce, networks: Sequence[Network]) -> list[dict[str, Any]]:
    """Return entries of ``deny``, each with what it has dropped, and whether it has since the drain before."""
    denied, drained = limiter.denied(), limiter.sources
    rows: list[dict[str, Any]] = []
    for network, listed in zip(dict.fromkeys(networks), _listed(in_force, "deny", networks), strict=True):
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


def _origin(setting: object, of_file: Collection[object]) -> str:
    return "file" if setting in of_file else "runtime"


def _origin_of(file: Limits, explained: Explanation) -> str | None:
    if explained.rule:
        return _origin(explained.rule, file.rules)
    lists = {"allowed": file.allow, "denied": file.deny}
    return _origin(explained.prefix, lists[explained.verdict]) if explained.verdict in lists else None


def _reason(explained: Explanation) -> str:
    match explained.verdict:
        case "protected":
            return "the limits were changed from this address over SSH, and nobody has confirmed that since"
        case "denied":
            return f"{explained.prefix} is on the list deny, which goes before all but protection"
        case "allowed":
            return f"{explained.prefix} is on the list allow, which goes before every rule"
        case "limited" if explained.rule:
            return f"of the rules for this traffic, {explained.rule.name} has the longest prefix, {explained.prefix}"
        case _:
            return "no rule has a prefix that holds the address, for this traffic on this interface"


def _bucket(limiter: Limiter, in_force: InForce, source: Address, explained: Explanation) -> dict[str, Any] | None:
    """Return the bucket that decides, as it is now; None if no packet has come since it was last full."""
    drained = limiter.sources
    if drained is None or explained.rule is None or explained.source is None:
        return None
    word = in_force.word(explained.rule)
    if explained.home is None:
        shared = (held for held in limiter.shared() if held.source == explained.source and held.rule == word)
        held = next((each for each in shared if each.in_use), None)
    else:
        found = limiter.bucket(source, explained.source, explained.home)
        held = Held(explained.source, word, found[0], rate=found[1]) if found else None
    return describe(held, limiter.bucket_rule, None, drained, limiter.read_clock()) if held else None


def _rule(look: Look, rule: Rule, origin: str | None) -> dict[str, Any]:
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


def _address(text: str) -> tuple[Address, str]:
    """Read an address, and its zone: that of a link-local one is the interface it is on (RFC 4007, 11.2), or ""."""
    address, _, zone = text.partition("%")
    try:
        return ip_address(unmapped(address)), zone
    except ValueError:
        raise UsageError(f"{shown(text)} is no address: expected one such as 192.0.2.1 or 2001:db8::1") from None
