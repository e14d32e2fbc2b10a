"""Sets of prefixes: what they allow, deny and count, and that a set is another one from one packet to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Final

import numpy as np
import pytest

from cnf.arrays import Records
from cnf.counts import Count
from cnf.errors import MapError
from cnf.kernel.maps import write_batch
from cnf.limiter import set_maps
from cnf.limiter.set_maps import SetMaps
from cnf.limits.prefix_file import read
from cnf.limits.prefixes import Prefixes, merged, separated
from cnf.limits.set_numbers import SetKey, SetsInKernel, set_place
from cnf.limits.table import Limits
from tests.bpf.compare import XDP_PASS
from tests.bpf.conftest import only
from tests.bpf.limited import XDP_DROP, Limited
from tests.bpf.limited import read as limits_of
from tests.bpf.packets import UDP, IPv4, IPv6, frame

SIZE: Final = 100
LARGE: Final = 100_000
SWAPS: Final = 4
BURST: Final = 3
RULE: Final = {"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": BURST}


def packet(source: str) -> bytes:
    """Return a frame of SIZE bytes."""
    return frame(IPv6(source) if ":" in source else IPv4(source), UDP(), pad_to=SIZE)


class WithSets:
    """A program with sets of prefixes, by name and action."""

    def __init__(self, limited: Limited) -> None:
        """Begin with none."""
        self.limited = limited
        self.maps = SetMaps(limited.loaded.maps, 0)
        self.there = SetsInKernel()

    def put(self, limits: Mapping[str, Any], prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Have these sets in force, as ``limits`` take them."""
        table = limits_of(limits)
        before, self.there = self.there, self.there.followed_by([*prefixes])
        if self.there.bank:
            numbered = {self.there.numbers[key]: each for key, each in prefixes.items()}
            self.maps.write(self.there.bank, merged(numbered))
        self.limited.maps.begin_sets(
            set_place(number) for key, number in self.there.numbers.items() if key not in before.numbers
        )
        self.take(table)
        self.limited.maps.wait()
        if before.bank:
            self.maps.clear(before.bank)

    def take(self, limits: Limits) -> None:
        """Switch to ``limits``, with the sets that are there."""
        self.limited.switch(limits, sets=self.there.settings(limits))

    def counts(self) -> dict[SetKey, tuple[Count, Count]]:
        """Return what each has counted, and what it has in shadow."""
        found = self.limited.maps.set_counts()
        return {
            key: (Count(*found[0][place].tolist()), Count(*found[1][place].tolist()))
            for key, number in self.there.numbers.items()
            for place in (set_place(number),)
        }

    def packets(self) -> dict[str, tuple[int, int]]:
        """Return the packets of each by name; their bytes must be to match."""
        counts = self.counts()
        assert all(each.bytes == SIZE * each.packets for both in counts.values() for each in both)
        return {name: (enforced.packets, shadow.packets) for (name, _), (enforced, shadow) in counts.items()}


@pytest.fixture
def sets(limited: Limited) -> Iterator[WithSets]:
    """Leave no set behind."""
    with_sets = WithSets(limited)
    limited.start({})
    yield with_sets
    with_sets.put({}, {})


def table(*sets: tuple[str, str], mode: str = "enforce", **more: object) -> dict[str, Any]:
    """Return ``[limits]`` with sets of these names and actions."""
    rows = [{"name": name, "file": "/f", "action": action} for name, action in sets]
    return {"mode": mode, "sets": rows, **more}


def lines(*prefixes: str) -> Prefixes:
    """Return prefixes as a file has them."""
    return read(BytesIO("\n".join(prefixes).encode()))


def passed(limited: Limited, source: str, packets: int = BURST + 2) -> int:
    """Return how many of some packets pass."""
    verdicts = [limited.run(packet(source)) for _ in range(packets)]
    assert {*verdicts} <= {XDP_PASS, XDP_DROP}
    return verdicts.count(XDP_PASS)


@pytest.mark.parametrize(("inner", "outer"), [("10.1.0.1", "10.2.0.1"), ("2001:db8:1::1", "2001:db8:2::1")])
def test_sets_go_behind_the_lists_and_before_the_rules(sets: WithSets, inner: str, outer: str) -> None:
    """Protected, denied and allowed by a list go first; then sets that allow, then those that deny, then the rules."""
    wide, narrow = ("10.0.0.0/8", "10.1.0.0/16") if "." in inner else ("2001:db8::/32", "2001:db8:1::/48")
    both: dict[SetKey, Prefixes] = {("good", "allow"): lines(narrow), ("bad", "deny"): lines(wide)}
    limits = table(("bad", "deny"), ("good", "allow"), rules=[RULE])

    sets.put(limits, both)

    assert (passed(sets.limited, inner), passed(sets.limited, outer)) == (BURST + 2, 0)
    assert sets.packets() == {"good": (BURST + 2, 0), "bad": (BURST + 2, 0)}
    assert sets.limited.dropped() == {"denied": Count(BURST + 2, SIZE * (BURST + 2))}
    sets.take(limits_of(limits | {"deny": [narrow], "allow": [wide]}))
    assert (passed(sets.limited, inner), passed(sets.limited, outer)) == (0, BURST + 2)
    assert sets.packets() == {"good": (BURST + 2, 0), "bad": (BURST + 2, 0)}
    sets.put(table(("bad", "deny"), rules=[RULE]), {("bad", "deny"): lines(narrow)})
    assert (passed(sets.limited, inner), passed(sets.limited, outer)) == (0, BURST)
    assert sets.packets() == {"bad": (2 * BURST + 4, 0)}


@pytest.mark.parametrize("source", ["10.1.0.1", "2001:db8:1::1"])
@pytest.mark.parametrize("action", ["allow", "deny"])
def test_a_set_in_shadow_only_counts(sets: WithSets, source: str, action: Any) -> None:  # noqa: ANN401 - a SetAction
    """Every packet, and the rules decide; the same numbers go on when it is put to enforce."""
    limits = table(("s", action), rules=[RULE])
    sets.put(limits | {"mode": "shadow"}, {("s", action): lines("10.0.0.0/8", "2001:db8::/32")})
    assert passed(sets.limited, source) == BURST + 2
    assert sets.packets() == {"s": (0, BURST + 2)}
    assert sets.limited.packets() == {"r": {"passed": BURST, "would_limit": 2}}

    sets.take(limits_of(limits))

    assert passed(sets.limited, source) == (BURST + 2 if action == "allow" else 0)
    assert sets.packets() == {"s": (BURST + 2, BURST + 2)}
    sets.take(limits_of(limits | {"mode": "off"}))
    assert passed(sets.limited, source) == BURST + 2
    assert sets.packets() == {"s": (BURST + 2, BURST + 2)}


def test_the_next_daemon_finds_the_prefixes(sets: WithSets) -> None:
    """Of each set in the bank in force, and empties the other one."""
    prefixes: dict[SetKey, Prefixes] = {
        ("a", "deny"): lines("10.0.0.0/8", "2001:db8::/32", "192.0.2.1"),
        ("b", "deny"): lines("192.0.2.1"),
    }
    sets.put(table(("a", "deny"), ("b", "deny")), prefixes)
    sets.maps.write(sets.there.next_bank, merged({0: lines("198.51.100.0/24")}))

    assert sets.limited.maps.sets_bank == sets.there.bank
    next_one = SetMaps(sets.limited.loaded.maps, sets.there.bank)

    held = next_one.held(sets.there.bank)
    assert {key: separated(held, number) for key, number in sets.there.numbers.items()} == prefixes
    assert not any(len(keys) for keys, _ in SetMaps(sets.limited.loaded.maps, 0).held(sets.there.next_bank).values())


def test_a_bank_is_empty_before_it_is_filled(sets: WithSets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a daemon that was killed, or refused by the kernel half-way, has left there."""
    bank, files = sets.there.next_bank, [lines("10.0.0.0/8", "2001:db8::/32", "192.0.2.1"), lines("198.51.100.0/24")]
    others = SetMaps(sets.limited.loaded.maps, 0)

    def refuse_half(name: str, fd: int, keys: Records, values: Records) -> None:
        write_batch(name, fd, keys[: len(keys) // 2], values)
        raise MapError("no memory", errno=12)

    with monkeypatch.context() as patched:
        patched.setattr(set_maps, "write_batch", refuse_half)
        with pytest.raises(MapError):
            others.write(bank, merged({0: files[0]}))
    sets.maps.write(bank, merged({0: files[1]}))
    assert separated(others.held(bank), 0) == files[1]

    others.write(bank, merged({0: files[0]}))
    sets.maps.write(bank, merged({0: files[1]}))
    assert separated(others.held(bank), 0) == files[1]
    assert not any(len(keys) for keys, _ in others.held(3 - bank).values())


@contextmanager
def flood(limited: Limited, *sources: str) -> Iterator[dict[str, dict[int, int]]]:
    """Send from another thread, packet after packet; yield how often there was which verdict, by source."""
    found: dict[str, dict[int, int]] = {source: {XDP_PASS: 0, XDP_DROP: 0} for source in sources}
    frames = {source: packet(source) for source in sources}
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            for source, each in frames.items():
                found[source][limited.run(each)] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


@only("cache")
@pytest.mark.parametrize("form", ["{}.{}.{}.0/24", "2001:db8:{:x}{:02x}:{:x}::/64"])
def test_a_large_set_is_there_soon(sets: WithSets, form: str) -> None:
    """100,000 prefixes are read, and written beside as many that are in force, each in less than a second."""
    data = "\n".join(form.format(10 + (n >> 16), n >> 8 & 255, n & 255) for n in range(LARGE)).encode()
    began = time.thread_time()
    prefixes = read(BytesIO(data))
    was_read = time.thread_time()
    sets.maps.write(1, merged({0: prefixes}))
    written = time.thread_time()
    assert len(prefixes) == LARGE
    assert (was_read - began < 1, written - was_read < 1) == (True, True)
    sets.maps.clear(1)


@only("cache")
def test_no_packet_sees_half_of_a_large_set(sets: WithSets) -> None:
    """Two files of 100,000 prefixes take turns: one denies A, one denies B, and both C, which never passes."""
    drawn = np.random.default_rng(1).permutation(1 << 20)[: 2 * LARGE]
    others = [f"{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/24" for n in drawn.tolist()]
    first, second, both = "10.0.0.1", "10.1.0.1", "10.2.0.1"
    files = [
        lines("10.0.0.0/16", "10.2.0.0/16", *others[: LARGE - 2]),
        lines("10.1.0.0/16", "10.2.0.0/16", *others[LARGE + 2 :]),
    ]
    assert [len(file) for file in files] == [LARGE, LARGE]
    limits = table(("s", "deny"))
    sets.put(limits, {("s", "deny"): files[0]})
    sets.limited.maps.under_load = True
    try:
        with flood(sets.limited, first, second, both) as found:
            for turn in range(1, SWAPS + 1):
                sets.put(limits, {("s", "deny"): files[turn % 2]})
    finally:
        sets.limited.maps.under_load = False

    assert found[both][XDP_PASS] == 0
    assert found[both][XDP_DROP] > 0
    for each in (first, second):
        assert min(found[each].values()) > 0
    dropped = sum(verdicts[XDP_DROP] for verdicts in found.values())
    assert sets.packets() == {"s": (dropped, 0)}
    assert sets.limited.dropped()["denied"].packets == dropped
