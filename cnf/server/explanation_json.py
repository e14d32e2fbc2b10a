"""The control socket's answer about one address, as a JSON object: what happens to its packets, and why."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Any, Final, get_args

from cnf.abi import FRAGMENTS, TRAFFIC
from cnf.addresses import unmapped
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.query import select
from cnf.flows.snapshot import Snapshot
from cnf.limiter.in_force import InForce, InSet, Look
from cnf.limiter.limiter import Limiter
from cnf.limiter.sources import Held, describe
from cnf.limits.groups import OVERFLOW, Cell
from cnf.limits.ruleset import Address, Explanation
from cnf.limits.table import Limits, Traffic
from cnf.readers import shown
from cnf.server.limits_json import denied_rows, listed_rows, origin_of, rule_row

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
    rule, origin = explained.rule, _origin_of_verdict(look.in_force.file, explained)
    off = explained.verdict == "unlimited" and look.in_force.effective.limits.mode == "off"
    return {
        "interfaces": sorted({name for name, _ in cells} - {OVERFLOW}),
        "protocols": _protocols(source, {each for _, each in cells}),
        "verdict": "off" if off else explained.verdict,
        "prefix": str(explained.prefix) if explained.prefix else None,
        "origin": origin,
        "rule": rule_row(look, rule, origin) if rule else None,
        "set": None,
        "in_shadow": [f"{each.set.action} {each.prefix} of {each.set.name}" for each in in_sets[:1]]
        if explained.verdict in ("limited", "unlimited")
        else [],
        "reason": "limits.mode is off" if off else _reason(explained),
        "bucket": _bucket(limiter, look.in_force, source, explained) if rule else None,
        "entry": next(iter(denied_rows(limiter, look.in_force, [explained.prefix])), None)
        if explained.verdict == "denied" and explained.prefix
        else None,
        "allow_entry": listed_rows(look.in_force, "allow", [explained.prefix])[0]
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


def _origin_of_verdict(file: Limits, explained: Explanation) -> str | None:
    if explained.rule:
        return origin_of(explained.rule, file.rules)
    lists = {"allowed": file.allow, "denied": file.deny}
    return origin_of(explained.prefix, lists[explained.verdict]) if explained.verdict in lists else None


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


def _address(text: str) -> tuple[Address, str]:
    """Read an address, and its zone: that of a link-local one is the interface it is on (RFC 4007, 11.2), or ""."""
    address, _, zone = text.partition("%")
    try:
        return ip_address(unmapped(address)), zone
    except ValueError:
        raise UsageError(f"{shown(text)} is no address: expected one such as 192.0.2.1 or 2001:db8::1") from None
