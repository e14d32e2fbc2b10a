"""The ``[limits]`` table: what to allow, deny and limit. Pure.

``LIMITS`` and ``RULE`` read a table as TOML, or a command, has it, and check what no option can alone: that a rule has
a rate, and each burst its own, and that the bucket fits the numbers that the program keeps it in.
"""

import ipaddress
import re
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

from attrs import AttrsInstance, fields, frozen, has

from cnf.addresses import unmapped
from cnf.errors import Problem
from cnf.limits.token_bucket import Meter, byte_meter, longest_burst, packet_meter
from cnf.readers import INTERFACE, Reader, RefusedError, amount, array, choice, integer, is_path, refusal, table, text

Network = IPv4Network | IPv6Network
LimitMode = Literal["off", "shadow", "enforce"]
BucketKind = Literal["source", "prefix"]
Unreadable = Literal["pass", "drop"]
SetAction = Literal["allow", "deny"]
Traffic = Literal["tcp", "tcp_syn", "udp", "icmp", "icmpv6", "other", "fragment"]

MAX_RATE: Final = 1_000_000_000
MAX_BITS: Final = 1_000_000_000_000
MIN_BURST_BYTES: Final = 1514
"""A whole frame of Ethernet's usual MTU: in a smaller bucket it would never fit."""

_PREFIXES_PER_RULE: Final = 64


def _prefix(value: object, path: str) -> Network:
    if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?", value):
        ipv4 = unmapped(value)
        if ipv4 != value and ipv4.endswith("/0"):  # of a list of bogus IPv6 sources, rather
            hint = 'write "0.0.0.0/0" if you mean all of IPv4; unreadable = "drop" drops such IPv6 sources'
            raise refusal(path, "no prefix of all IPv4-mapped addresses", value, hint)
        with suppress(ValueError):
            return ipaddress.ip_network(ipv4)
        with suppress(ValueError):
            right = ipaddress.ip_network(ipv4, strict=False)
            raise refusal(path, "a prefix without host bits", value, f'write "{right}"')
    raise refusal(path, 'a prefix such as "192.0.2.0/24" or "2001:db8::/32"', value)


_bits: Final = amount(8, MAX_BITS, "bits a second")


def _bits_per_second(value: object, path: str) -> int:
    rate: int = _bits(value, path)
    if rate > MAX_RATE and rate % 1000:  # else a unit of its bucket is so small that 64 bits are soon used up
        raise refusal(path, "whole thousands of bits in a rate above 1G", value)
    return rate


NAME: Final[Reader] = text(
    "a name of 1 to 64 letters, digits, dots, dashes and underscores",
    lambda name: re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) is not None,
)
PREFIX: Final[Reader] = _prefix
_PREFIXES: Final = array("an array of prefixes, at least one", PREFIX, least=1)
_PROTOCOLS: Final = array("an array of protocols, at least one", choice(Traffic), least=1)
_NAMES: Final = array("an array of interfaces, at least one", INTERFACE, least=1)


@frozen
class Rule:
    """One ``[[limits.rules]]`` table. It has a rate at least."""

    name: Annotated[str, NAME, "what metrics and commands call the rule"]
    prefixes: Annotated[tuple[Network, ...], _PREFIXES, "the sources; of all rules, the longest prefix decides"]
    packets_per_second: Annotated[int | None, integer(1, MAX_RATE), "either rate or both"] = None
    burst_packets: Annotated[int | None, integer(1, MAX_RATE), "without it, a second's worth"] = None
    bits_per_second: Annotated[int | None, _bits_per_second, 'an integer, or "64k", "500M", "1G"'] = None
    burst_bytes: Annotated[
        int | None,
        amount(MIN_BURST_BYTES, MAX_BITS, "bytes"),
        "at least 1514; without it, a second's worth, but at least 64 KiB",
    ] = None
    bucket: Annotated[BucketKind, choice(BucketKind), "source, or prefix: one for all of the prefix"] = "source"
    protocols: Annotated[
        tuple[Traffic, ...], _PROTOCOLS, "some of tcp, tcp_syn, udp, icmp, icmpv6, other, fragment"
    ] = ()
    interfaces: Annotated[tuple[str, ...], _NAMES, "names, or shell patterns"] = ()
    mode: Annotated[LimitMode | None, choice(LimitMode), "overrides limits.mode"] = None

    @property
    def packets(self) -> Meter | None:
        """Return the bucket's limit of packets."""
        return packet_meter(self.packets_per_second, self.burst_packets)

    @property
    def octets(self) -> Meter | None:
        """Return the bucket's limit of bytes."""
        return byte_meter(self.bits_per_second, self.burst_bytes)


def _rule(value: object, path: str) -> Rule:
    """Read a rule, and check what holds between its options."""
    problems: list[Problem] = []
    rule: Rule | None = None
    try:
        rule = table(Rule)(value, path)
    except RefusedError as error:
        problems += error.problems
    if isinstance(value, dict):
        rates = {"burst_packets": "packets_per_second", "burst_bytes": "bits_per_second"}
        if not value.keys() & set(rates.values()):
            problems.append(Problem(path, "expected packets_per_second, bits_per_second or both"))
        problems += [
            Problem(f"{path}.{burst}", f"expected only beside {rate}")
            for burst, rate in rates.items()
            if burst in value and rate not in value
        ]
    if rule and not problems:
        for key, meter, other in (
            ("burst_packets", rule.packets, rule.octets),
            ("burst_bytes", rule.octets, rule.packets),
        ):
            if meter and meter.burst > (most := longest_burst(meter, other)):
                message = f"expected at most {most} at the rule's rates, got {meter.burst} ({_BURST_REMEDY})"
                problems.append(Problem(f"{path}.{key}", message))
    if problems or not rule:
        raise RefusedError(*problems)
    return rule


_BURST_REMEDY: Final = "at most 10 days' worth; rates of many digits allow less: round them"

RULE: Final[Reader] = _rule
_RULES: Final = array("[[limits.rules]] tables", RULE, noun="rule")
_FILE: Final = text("the absolute path of a file, at most 4,000 bytes", is_path)
PREFIX_LIST: Final = array("an array of prefixes", PREFIX)


@frozen
class PrefixSet:
    """One ``[[limits.sets]]`` table: prefixes out of a file, which is read again when it has changed."""

    name: Annotated[str, NAME, "what metrics and commands call the set"]
    file: Annotated[str, _FILE, "prefixes, one a line; or JSON lines of Spamhaus; or what ipset save writes"]
    action: Annotated[SetAction, choice(SetAction), "allow or deny; allow goes before deny"]
    mode: Annotated[LimitMode | None, choice(LimitMode), "overrides limits.mode; shadow only counts"] = None


MAX_SETS: Final = 32


def _sets(value: object, path: str) -> tuple[PrefixSet, ...]:
    sets: tuple[PrefixSet, ...] = array("[[limits.sets]] tables", table(PrefixSet), noun="set")(value, path)
    if len(sets) > MAX_SETS:
        raise RefusedError(Problem(path, f"expected at most {MAX_SETS} sets, got {len(sets)}"))
    return sets


@frozen
class Limits:
    """Table ``[limits]``."""

    mode: Annotated[LimitMode, choice(LimitMode), "off, shadow (counts what it would drop) or enforce"] = "shadow"
    allow: Annotated[tuple[Network, ...], PREFIX_LIST, "never limited"] = ()
    deny: Annotated[tuple[Network, ...], PREFIX_LIST, "always dropped, even if allowed; not in mode off"] = ()
    unreadable: Annotated[Unreadable, choice(Unreadable), "or drop: packets whose headers are too deep to be read"] = (
        "pass"
    )
    max_sources: Annotated[int, integer(1, 1 << 24), "sources with a bucket; IPv4 and IPv6 have so many each"] = 262_144
    ipv6_source_prefix: Annotated[int, integer(1, 128), "so many bits of an IPv6 address are one source"] = 64
    max_rules: Annotated[int, integer(16, 1 << 16), "how many the rules may become while the daemon runs"] = 1024
    state_file: Annotated[str, _FILE, "where changes at run time are kept"] = "/var/lib/cnf/limits.json"
    rules: Annotated[tuple[Rule, ...], _RULES, "what a source, or all of a prefix, may send"] = ()
    sets: Annotated[tuple[PrefixSet, ...], _sets, "prefixes out of files, allowed or denied"] = ()

    @property
    def drop_unreadable(self) -> bool:
        """Return whether packets are dropped that no rule can be found for."""
        return self.unreadable == "drop" and self.mode != "off"

    def mode_of(self, rule: Rule | PrefixSet) -> LimitMode:
        """Return the mode that a rule, or a set, is in."""
        return rule.mode or self.mode

    @property
    def say_anything(self) -> bool:
        """Return whether they have an entry, a rule or a set, or drop what is unreadable."""
        return bool(self.deny or self.rules or self.sets or self.drop_unreadable)


NO_TABLE: Final = Limits(mode="enforce", max_sources=16_384)
"""The meaning of a configuration without the table: what is denied or set at run time holds, for fewer sources."""
LIMITS: Final[Reader] = table(Limits)


def written(options: AttrsInstance) -> dict[str, Any]:
    """Return a table as one would write it: the keys that differ from their default, prefixes as text."""
    return {
        option.name: _written(setting)
        for option in fields(type(options))
        if (setting := getattr(options, option.name)) != option.default
    }


def _written(setting: object) -> object:
    match setting:
        case tuple():
            return [_written(item) for item in setting]
        case IPv4Network() | IPv6Network():
            return str(setting)
        case _ if has(type(setting)):
            return written(cast("AttrsInstance", setting))
        case _:
            return setting


class Room(NamedTuple):
    """The sizes of the limiter's tables."""

    rules: int
    """Rules, and as many shared buckets, of two sets; policies of one. A power of two."""
    prefixes: int
    """Of a family, of one set."""


def denied_room(prefixes: int) -> int:
    """Return how many entries ``deny`` may have, those of two sets, beside room for so many prefixes."""
    return prefixes // 4


def room(limits: Limits) -> Room:
    """Return the room for ``limits``, and for sets of up to ``max_rules`` rules that take each other's place."""
    shared = sum(len(rule.prefixes) for rule in limits.rules if rule.bucket == "prefix")
    prefixes = len(limits.allow) + 2 * len(limits.deny) + sum(len(rule.prefixes) for rule in limits.rules)
    most = max(limits.max_rules, len(limits.rules), shared)
    return Room(1 << (2 * most - 1).bit_length(), max(_PREFIXES_PER_RULE * limits.max_rules, 4 * prefixes))
