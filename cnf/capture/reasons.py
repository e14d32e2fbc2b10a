"""Why a captured packet was dropped, or would have been: the verdict is the kernel's, the words are the rule set's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from cnf.abi import FLOW_FRAGMENT, ICMP, ICMPV6, TCP, UDP, Family

if TYPE_CHECKING:
    from cnf.limiter.limiter import Limiter

MOST: Final = 10_000
"""Answers that are kept: of so many sources, each is worked out once."""
_SYN, _SYN_ACK = 0x02, 0x12
_UNREADABLE: Final = "its headers cannot be read (limits.unreadable)"
_ICMP: Final[Mapping[Family, tuple[int, str]]] = {"ipv4": (ICMP, "icmp"), "ipv6": (ICMPV6, "icmpv6")}


def traffic_of(family: Family, protocol: int, flags: int, tcp_flags: int) -> str:
    """Return what a packet is to the rules, one of ``abi.TRAFFIC``: as ``traffic_of()`` of limiter.h has it."""
    icmp, icmp_name = _ICMP[family]
    name = {TCP: "tcp", UDP: "udp", icmp: icmp_name}.get(protocol, "other")
    if flags & FLOW_FRAGMENT:
        return f"{name}_fragment"
    return "tcp_syn" if name == "tcp" and tcp_flags & _SYN_ACK == _SYN else name


class Reasons:
    """Name the rule, the entry of ``deny`` or the set behind a verdict; for one thread.

    They are looked up in the rule set in force. A packet that saw another one keeps its verdict, and has no name.
    """

    def __init__(self, limiter: Limiter | None, name_of: Callable[[int], str]) -> None:
        """Ask ``limiter``; ``name_of`` tells an interface's name by its ifindex."""
        self._limiter = limiter
        self._name_of = name_of
        self._generation = -1
        self._known: dict[tuple[str, bytes, int, str], str] = {}

    def of(self, verdict: str, generation: int, address: bytes, ifindex: int, traffic: str) -> str:
        """Return why packets of ``traffic`` from ``address`` have that verdict; "" if they pass, or it is not known."""
        if verdict == "unreadable":
            return _UNREADABLE
        if self._limiter is None or verdict == "passed":
            return ""
        if generation != self._generation or len(self._known) >= MOST:
            self._generation, self._known = generation, {}
        key = verdict, address, ifindex, traffic
        if key not in self._known:
            self._known[key] = self._worked_out(self._limiter, *key)
        return self._known[key]

    def _worked_out(self, limiter: Limiter, verdict: str, packed: bytes, ifindex: int, traffic: str) -> str:
        in_force = limiter.in_force
        if in_force.generation != self._generation:
            return ""
        address = ip_address(packed)
        found = in_force.explain(address, self._name_of(ifindex), traffic)
        if verdict == "denied" and found.verdict == "denied":
            return f"limits.deny {found.prefix}"
        if verdict in ("denied", "would_drop"):
            mode = "enforce" if verdict == "denied" else "shadow"
            for each in in_force.in_sets(ip_network(address)):
                if each.set.action == "deny" and each.mode == mode:
                    return f"set {each.set.name} {each.prefix}"
        if verdict in ("limited", "would_drop") and found.rule:
            return f"rule {found.rule.name}"
        return ""
