"""Rule sets take each other's place as a whole; what a change leaves alone keeps its tokens and its counts."""

from __future__ import annotations

import errno
import random
from collections import Counter
from contextlib import closing
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import EVENT_KINDS, FAMILIES, LIMIT_SETTINGS
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel.maps import DirectArray, write_batch
from cnf.kernel.ring import Ring
from cnf.limiter import maps
from cnf.limits.table import Network
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import XDP_DROP, Clocked, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.pinned import Flood

SWITCHES: Final = 300
SWITCHES_UNDER_LOAD: Final = 25
PACKETS: Final = [frame(IPv4(src="192.0.2.1"), UDP()), frame(IPv6(src="2001:db8::1"), UDP())]
BURST: Final = 10
RULE: Final[dict[str, Any]] = {
    "name": "r",
    "prefixes": ["0.0.0.0/0", "::/0"],
    "packets_per_second": 1000,
    "burst_packets": BURST,
}
ANYTHING: Final[dict[str, Any]] = {"packets_per_second": 10**9, "burst_packets": 10**9}
NEXT_TO_NOTHING: Final[dict[str, Any]] = {"packets_per_second": 1, "burst_packets": 1}


def table(mode: str = "enforce", /, *others: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - options
    """Return a ``[limits]`` table of RULE with some changes, and of other rules."""
    return {"mode": mode, "rules": [*others, RULE | changes]}


def admitted(clocked: Clocked, packet: bytes) -> int:
    """Return how many packets pass before one does not; the clock stands still."""
    return next(number for number in range(1000) if clocked.run(packet) != XDP_PASS)


@pytest.mark.parametrize("packet", PACKETS, ids=FAMILIES)
@pytest.mark.parametrize("kind", ["source", "prefix"])
@pytest.mark.parametrize(
    "after",
    [
        table(),
        table("shadow", mode="enforce"),
        table() | {"allow": ["192.0.2.2/32", "2001:db8:1::/48"], "deny": ["10.0.0.0/8"]},
        table("enforce", RULE | {"name": "icmp", "protocols": ["icmp"]}),
        table("enforce", RULE | {"name": "tcp", "protocols": ["tcp"]}),
        table("enforce", RULE | {"name": "first", "prefixes": ["10.0.0.0/8"]}),
    ],
    ids=[
        "nothing",
        "where the mode stands",
        "the lists",
        "a rule for others",
        "a rule for the first protocol",
        "a rule before it",
    ],
)
def test_rule_that_stays_keeps_its_tokens_and_counts(
    clocked: Clocked, packet: bytes, kind: str, after: dict[str, Any]
) -> None:
    """A source that has used up its burst gets none by a change that is about something else."""
    after = after | {"rules": [each | {"bucket": kind} for each in after["rules"]]}
    clocked.start(table(bucket=kind))
    assert admitted(clocked, packet) == BURST
    for _ in range(3):
        clocked.switch(after)
        assert admitted(clocked, packet) == 0
        clocked.switch(table(bucket=kind))
        assert admitted(clocked, packet) == 0
    assert clocked.packets() == {"r": {"passed": BURST, "limited": 7}}


def test_shadow_that_becomes_enforcing_goes_on_with_the_same_bucket(clocked: Clocked) -> None:
    """What a source has used in shadow is used; the counts go on under their verdicts."""
    clocked.start(table("shadow"))
    assert {clocked.run(PACKETS[0]) for _ in range(BURST + 5)} == {XDP_PASS}
    clocked.switch(table("enforce"))
    assert admitted(clocked, PACKETS[0]) == 0
    assert clocked.packets() == {"r": {"passed": BURST, "would_limit": 5, "limited": 1}}


@pytest.mark.parametrize("packet", PACKETS, ids=FAMILIES)
@pytest.mark.parametrize(
    ("change", "burst"),
    [
        ({"packets_per_second": 1001}, BURST),
        ({"packets_per_second": 1}, BURST),
        ({"burst_packets": 20}, 20),
        ({"bits_per_second": 10**9}, BURST),
        ({"name": "s"}, BURST),
        ({"bucket": "prefix"}, BURST),
    ],
)
def test_rule_whose_bucket_changes_starts_full(
    clocked: Clocked, packet: bytes, change: dict[str, Any], burst: int
) -> None:
    """Tokens of another rate or burst mean nothing; the counts start, too."""
    clocked.start(table())
    admitted(clocked, packet)
    clocked.switch(table(**change))
    assert admitted(clocked, packet) == burst
    assert clocked.packets() == {change.get("name", "r"): {"passed": burst, "limited": 1}}
    clocked.switch(table())
    assert admitted(clocked, packet) == BURST


def test_source_that_no_rule_was_about_starts_full(clocked: Clocked) -> None:
    """A rule that was away is a new one."""
    clocked.start(table())
    admitted(clocked, PACKETS[0])
    clocked.switch({})
    assert {clocked.run(PACKETS[0]) for _ in range(3 * BURST)} == {XDP_PASS}
    clocked.switch(table())
    assert admitted(clocked, PACKETS[0]) == BURST


def test_deny_and_allow_come_and_go_with_the_switch(clocked: Clocked) -> None:
    """A source that is remembered is decided on anew by every rule set."""
    clocked.start(table())
    for _ in range(4):
        clocked.switch(table() | {"deny": ["192.0.2.0/24"]})
        assert admitted(clocked, PACKETS[0]) == 0
        clocked.switch(table() | {"allow": ["192.0.2.0/24"]})
        assert {clocked.run(PACKETS[0]) for _ in range(3 * BURST)} == {XDP_PASS}
    assert clocked.dropped()["denied"].packets == 4


def test_many_switches_leave_no_prefix_behind(clocked: Clocked) -> None:
    """After each of many, a bank has its own prefixes, and the other one those of the set before."""
    shuffle = random.Random(3)  # noqa: S311 - no secret
    clocked.start({})
    inside: dict[int, set[Network]] = {0: set(), 1: set()}
    for _ in range(SWITCHES):
        lists = {
            name: [f"10.{shuffle.randrange(4)}.0.0/{length}" for length in (16, 17, 24) if shuffle.random() < 0.5]
            + [f"2001:db8:{shuffle.randrange(4)}::/{length}" for length in (48, 56, 64) if shuffle.random() < 0.5]
            for name in ("allow", "deny")
        }
        clocked.switch(lists)
        inside[clocked.maps.generation & 1] = {ip_network(prefix) for both in lists.values() for prefix in both}
        found = [entry for family in FAMILIES for entry in clocked.prefixes(family)]
        assert Counter(found) == Counter((bank, prefix) for bank, prefixes in inside.items() for prefix in prefixes)


def test_a_rule_set_that_was_not_written_to_its_end_is_no_obstacle(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal half-way leaves the rules before in force, and the next set is written as if it had not been."""
    clocked.start({"deny": ["10.0.0.0/8"]})

    def refused(name: str, fd: int, keys: Records, values: Records) -> None:
        if name == "limit_prefixes4":
            write_batch(name, fd, keys[:1], values[:1])
            message = "writing map limit_prefixes4: Cannot allocate memory"
            raise MapError(message, errno=errno.ENOMEM)
        write_batch(name, fd, keys, values)

    with monkeypatch.context() as patch:
        patch.setattr(maps, "write_batch", refused)
        with pytest.raises(MapError):
            clocked.switch({"deny": ["192.0.2.0/24", "198.51.100.0/24"]})
    assert clocked.run(PACKETS[0]) == XDP_PASS
    assert clocked.run(frame(IPv4("10.1.2.3"), UDP())) == XDP_DROP

    clocked.switch({"deny": ["192.0.2.1/32"]})
    assert clocked.run(PACKETS[0]) == XDP_DROP
    assert [str(prefix) for bank, prefix in clocked.prefixes("ipv4") if bank == clocked.maps.generation & 1] == [
        "192.0.2.1/32"
    ]


def test_no_packet_meets_half_a_rule_set(limited: Limited) -> None:
    """Under load from every CPU, what both sets let pass always passes, and what both deny never does."""
    sets: list[dict[str, Any]] = [
        {
            "mode": "enforce",
            "deny": ["198.51.100.1/32"],
            "rules": [
                {"name": "a", "prefixes": ["192.0.2.1/32", "2001:db8::/48"], "protocols": ["udp"], **ANYTHING},
                {"name": "b", "prefixes": ["0.0.0.0/0", "::/0"], **NEXT_TO_NOTHING},
            ],
        },
        {
            "mode": "enforce",
            "deny": ["198.51.0.0/16"],
            "rules": [
                {"name": "c", "prefixes": ["192.0.2.1/32", "::/0"], "protocols": ["tcp", "icmp"], **NEXT_TO_NOTHING},
                {"name": "d", "prefixes": ["10.0.0.0/8", "2001::/16"], **NEXT_TO_NOTHING},
                {"name": "e", "prefixes": ["192.0.0.0/8", "2001:db8::/32"], "protocols": ["udp", "icmp"], **ANYTHING},
            ],
        },
    ]
    denied = frame(IPv4(src="198.51.100.1"), UDP())
    limited.start(sets[0])
    limited.maps.under_load = True
    try:
        with Flood(limited, [*PACKETS, denied]) as flood:
            for number in range(SWITCHES_UNDER_LOAD):
                limited.switch(sets[1 - number % 2])
    finally:
        limited.maps.under_load = False
    assert {reason: count.packets for reason, count in limited.dropped().items()} == {"denied": flood.sent[denied]}
    assert limited.received()["udp"][0] == sum(flood.sent.values())


def test_a_bank_is_written_again_only_once_nobody_reads_it(limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch right after another one waits for packets that may still see the set before; only then it writes."""
    now, slept = 1000.0, list[float]()
    settings = DirectArray("limit_settings", limited.loaded.maps["limit_settings"], LIMIT_SETTINGS)

    def banks() -> list[bytes]:
        written = [settings.read(bank).tobytes() for bank in (0, 1)]
        return [*written, repr([entry for family in FAMILIES for entry in limited.prefixes(family)]).encode()]

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)
        assert banks() == before

    monkeypatch.setattr(maps, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    limited.start({"deny": ["10.0.0.0/8"], "ipv6_source_prefix": 32})
    limited.switch({"deny": ["10.1.0.0/16"], "ipv6_source_prefix": 48})
    now += 0.03
    before = banks()
    limited.maps.under_load = True
    try:
        limited.switch({"deny": ["10.2.0.0/16"], "ipv6_source_prefix": 56})
    finally:
        limited.maps.under_load = False
    assert sum(slept) == pytest.approx(maps.GRACE - 0.03)
    assert banks() != before


@pytest.mark.parametrize(
    ("limits", "looks_up", "sources"),
    [
        ({}, False, 0),
        (table("off") | {"deny": ["10.0.0.0/8"]}, False, 0),
        ({"allow": ["10.0.0.0/8"]}, False, 0),
        ({"deny": ["10.0.0.0/8"]}, True, 1),
        (table("shadow"), True, 1),
    ],
    ids=["nothing", "off", "allow", "deny", "shadow"],
)
def test_nothing_is_looked_up_where_everything_passes(
    limited: Limited,
    limits: dict[str, Any],
    looks_up: bool,  # noqa: FBT001 - a parameter of the test
    sources: int,
) -> None:
    """Limits that hold back and deny nobody cost a packet no lookup, and leave no source behind."""
    limited.start(limits)
    limited.run(PACKETS[0])

    generation = DirectArray("limit_generation", limited.loaded.maps["limit_generation"], np.dtype("<u8"))
    assert bool(generation.read(0)) is looks_up
    assert len(limited.sources()) == sources


@pytest.mark.parametrize("packet", PACKETS, ids=FAMILIES)
@pytest.mark.parametrize("kind", ["source", "prefix"])
def test_the_first_drop_is_told_of_a_bucket_that_was_over_in_shadow(clocked: Clocked, packet: bytes, kind: str) -> None:
    """What shadow let pass is no drop: the first packet that is dropped in earnest is an event, and no other is."""
    bank = clocked.start(table("shadow", bucket=kind))
    with closing(Ring(clocked.loaded.maps["events"])) as ring:
        ring.read()
        assert [clocked.run(packet) for _ in range(BURST + 4)] == [XDP_PASS] * (BURST + 4)
        assert kinds(ring) == ["rule_generation"]
        for mode, told in (("enforce", ["first_drop"]), ("shadow", []), ("enforce", [])):
            clocked.switch(table(mode, bucket=kind))
            assert [clocked.run(packet) for _ in range(3)] == [XDP_PASS if mode == "shadow" else XDP_DROP] * 3
            assert kinds(ring) == ["rule_generation", *told]

    shared = [clocked.maps.shared(place) for place in bank.shared_places]
    values = [value for value in (*shared, *(value for *_, value in clocked.sources())) if value["packets"]]
    names = ("packets", "over_packets", "over_bytes", "dropped_packets", "dropped_bytes")
    size = len(packet)
    assert [[int(value[name]) for name in names] for value in values] == [[BURST, 13, 13 * size, 6, 6 * size]]


def kinds(ring: Ring) -> list[str]:
    """Return what has been told of meanwhile."""
    return [EVENT_KINDS[kind] for kind in ring.read().events["kind"]]
