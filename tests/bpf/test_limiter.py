"""The daemon's limiter on the kernel's maps: where another one has left its rules, and from switch to switch."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, get_args

import numpy as np
import pytest
from structlog.testing import capture_logs

from cnf.abi import COUNTER, LIMIT4_PREFIX, LIMIT_MATCH, VERDICTS
from cnf.clock import tick_ns
from cnf.datapath import build
from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.datapath.handover_map import PAGE, FullError, HandoverMap
from cnf.errors import ConfigError
from cnf.kernel import libbpf
from cnf.kernel.libbpf import possible_cpus
from cnf.kernel.maps import CounterArray
from cnf.kernel.pins import UnreadableError
from cnf.limiter.limiter import Limiter
from cnf.limiter.maps import LimiterMaps
from cnf.limits import layout
from cnf.limits.entries import moment
from cnf.limits.table import Limits, Traffic, room
from tests.bpf import kept
from tests.bpf.conftest import only
from tests.bpf.limited import FLOWS, read
from tests.net.wait import wait_for

RULES: Final = 200
RULE: Final = {"name": "r", "prefixes": ["0.0.0.0/0"], "packets_per_second": 10}
MANY: Final = ("a", "b", "c", "d", "e")
"""Interfaces: with the kinds of traffic, more combinations than the tables hold."""
NAMES: Final = random.Random(1)  # noqa: S311 - no secret


@pytest.fixture
def loaded(table: Table) -> Iterator[build.Datapath]:
    """Load the program with room for the rules of ``limits_of()``."""
    size = LimiterSize(4096, *room(Limits()))
    loaded = kept.load(Blueprint(FLOWS, table, limiter=size))
    yield loaded
    loaded.close()


def limits_of(folder: Path) -> Limits:
    """Return as many rules as ever, each time with other names, of which no letter can be left out."""
    rules = [
        {"name": f"{NAMES.getrandbits(250):063x}", "prefixes": [f"10.0.{number}.0/24"], "packets_per_second": 1}
        for number in range(RULES)
    ]
    return read({"rules": rules, "state_file": str(folder / "limits.json")})


def no_swap(*, limiting: bool) -> None:
    """Have no interface with a program."""


def begin(loaded: build.Datapath, limits: Limits) -> Limiter:
    """Have another daemon put its limits in force."""
    return Limiter(loaded, limits, (), HandoverMap(loaded.maps["handover"]), {}, no_swap)


def fill(handover_map: HandoverMap) -> None:
    """Leave no room in the handover for another set of rules."""
    noise = "".join(NAMES.choices(string.ascii_letters + string.digits + "+-", k=2 << 20))
    for length in range(len(noise), 0, -PAGE):
        with suppress(FullError):
            handover_map.put(series={"noise": noise[:length]})
            return


@only("cache")
def test_rules_that_find_no_room_beside_those_before_have_those_given_up(
    loaded: build.Datapath, tmp_path: Path
) -> None:
    """A start with so many other rules says that it cannot go on from those in force, and leaves them as they are."""
    first, handover_map = begin(loaded, limits_of(tmp_path)), HandoverMap(loaded.maps["handover"])
    fill(handover_map)
    with pytest.raises(UnreadableError, match=r"no room for other rules beside those in force: .* pages"):
        begin(loaded, limits_of(tmp_path))
    assert HandoverMap(loaded.maps["handover"]).part("limiter") == handover_map.part("limiter")
    assert first.in_force.generation == 1

    handover_map.put(series={})
    assert begin(loaded, limits_of(tmp_path)).in_force.generation == 2


@only("cache")
def test_rules_that_would_fit_nowhere_are_refused(loaded: build.Datapath, tmp_path: Path) -> None:
    """Nothing is given up for them: neither for a file that is wrong, nor where nothing was in force."""
    handover_map = HandoverMap(loaded.maps["handover"])
    fill(handover_map)
    with pytest.raises(FullError):
        begin(loaded, limits_of(tmp_path))

    handover_map.put(series={})
    limits = limits_of(tmp_path)
    begin(loaded, limits)
    protocols = [{"protocols": [traffic], "interfaces": [name]} for traffic in get_args(Traffic) for name in MANY]
    each = {"prefixes": ["0.0.0.0/0"], "packets_per_second": 1}
    apart = [{"name": f"r{number}", **each, **cell} for number, cell in enumerate(protocols)]
    with pytest.raises(ConfigError, match="at most 32 combinations"):
        Limiter(
            loaded,
            read({"rules": apart, "state_file": limits.state_file}),
            (),
            HandoverMap(loaded.maps["handover"]),
            {slot: (name,) for slot, name in enumerate(MANY)},
            no_swap,
        )


@only("cache")
def test_numbers_that_are_used_up_begin_anew(
    loaded: build.Datapath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that has no number left for a rule gives those in force up, in place of asking for help."""
    begin(loaded, limits_of(tmp_path))
    monkeypatch.setattr(layout, "ENFORCE", RULES + 1)
    with pytest.raises(UnreadableError, match="have been given to rules"):
        begin(loaded, limits_of(tmp_path))


@only("cache")
def test_packets_under_way_at_a_switch_are_counted(
    loaded: build.Datapath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a rule's number still counts after it was given up is taken once no CPU can count there any more."""
    limiter = begin(loaded, read({"rules": [RULE], "state_file": str(tmp_path / "limits.json")}))
    number = limiter.in_force.number(limiter.in_force.effective.limits.rules[0])
    counters = CounterArray("limit_counters", loaded.maps["limit_counters"])
    wait, waited = LimiterMaps.wait, 0

    def meanwhile(maps: LimiterMaps) -> None:
        nonlocal waited
        wait(maps)
        waited += 1
        if waited == 1:  # a packet that was under way on each CPU has ended
            counters.write(number * len(VERDICTS), np.array((1, 60), COUNTER))

    limiter.change({"op": "set", "rule": {"name": "r", "burst_packets": 5}}, 0, 0)
    assert limiter.counts()["r"][0].packets == 0
    monkeypatch.setattr(LimiterMaps, "wait", meanwhile)
    limiter.change({"op": "deny_add", "prefix": "192.0.2.1"}, 0, 0)
    assert limiter.counts()["r"][0].packets == possible_cpus()
    limiter.change({"op": "set", "rule": {"name": "r", "burst_packets": 6}}, 0, 0)
    limiter.change({"op": "set", "rule": {"name": "r", "burst_packets": 7}}, 0, 0)
    assert limiter.counts()["r"][0].packets == possible_cpus()


@only("cache")
def test_a_refused_file_leaves_no_trace_in_the_next_change(loaded: build.Datapath, tmp_path: Path) -> None:
    """After a file that the limiter has refused, changes, a reset and interfaces that come go by the file before."""
    state = str(tmp_path / "limits.json")
    limiter = begin(loaded, read({"rules": [RULE], "state_file": state}))
    prefixes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1 << 16)]
    refused = read({"rules": [{**RULE, "name": "other"}], "deny": [*prefixes, "192.0.2.0/24"], "state_file": state})
    with pytest.raises(ConfigError, match="65538 prefixes"):
        limiter.reload(refused, ())

    limiter.change({"op": "allow_add", "prefix": "198.51.100.1"}, 0, 0)
    limits = limiter.in_force.effective.limits
    assert [rule.name for rule in limits.rules] == ["r"]
    assert (limits.deny, list(map(str, limits.allow))) == ((), ["198.51.100.1/32"])
    limiter.change({"op": "reset"}, 0, 0)
    assert limiter.in_force.effective.limits == read({"rules": [RULE], "state_file": state})
    limiter.reload(read({"rules": [RULE], "state_file": state}), ())
    assert limiter.in_force.effective.limits.deny == ()


def alone(tmp_path: Path) -> Limits:
    """Return limits with one rule."""
    return read({"mode": "enforce", "rules": [RULE], "state_file": str(tmp_path / "limits.json")})


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the wall clock set, by so many seconds."""
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + seconds)


def seconds_left(loaded: build.Datapath, generation: int, address: IPv4Address) -> float:
    """Return how long the program still denies an address by an entry of its own."""
    key, match = np.zeros((), LIMIT4_PREFIX), np.zeros((), LIMIT_MATCH)
    key["length"], key["bank"], key["addr"] = 64, generation & 1, int.from_bytes(address.packed, "little")
    fd = loaded.maps["limit_prefixes4"]
    libbpf.check(libbpf.library().bpf_map_lookup_elem(fd, key.tobytes(), match.ctypes.data))
    return (int(match["deny_until"]) - loaded.read_clock()[0]) * tick_ns() / 1e9


@only("cache")
@pytest.mark.parametrize("step", [-1800, 1800])
def test_ends_follow_a_clock_that_is_set(
    loaded: build.Datapath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The kernel, which looks at another clock, gets to know anew when to end a block; once."""
    monkeypatch.setattr("cnf.limiter.limiter.LOOK", 0.05)
    limiter = begin(loaded, alone(tmp_path))
    limiter.change({"op": "deny_add", "prefix": "192.0.2.1", "until": moment(time.time() + 3600)}, 0, 0)
    generation = limiter.in_force.generation
    assert seconds_left(loaded, generation, IPv4Address("192.0.2.1")) == pytest.approx(3600, abs=3)

    with capture_logs() as logs:
        set_clock(monkeypatch, step)
        wait_for(lambda: bool(logs), "the end to be worked out anew")
    limiter.close()

    assert [line["event"] for line in logs] == ["clock was set, ends worked out anew"]
    assert limiter.in_force.generation == generation + 1
    assert seconds_left(loaded, generation + 1, IPv4Address("192.0.2.1")) == pytest.approx(3600 - step, abs=3)


@only("cache")
def test_what_has_ended_does_not_come_back(
    loaded: build.Datapath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change without ``--confirm`` that is made again, since one before it is undone, may have ended meanwhile."""
    limiter = begin(loaded, alone(tmp_path))
    limiter.change({"op": "deny_add", "prefix": "192.0.2.1", "confirm": 3600}, 0, 0)
    limiter.change({"op": "deny_add", "prefix": "192.0.2.2", "until": moment(time.time() + 100)}, 0, 0)
    set_clock(monkeypatch, 200)
    limiter.change({"op": "mode", "mode": "shadow"}, 0, 0)
    assert list(map(str, limiter.in_force.effective.limits.deny)) == ["192.0.2.1/32"]
    assert "192.0.2.2" not in (tmp_path / "limits.json").read_text(encoding="ascii")

    limiter.leave()

    effective = limiter.in_force.effective
    assert (effective.limits.deny, effective.entries, effective.limits.mode) == ((), (), "shadow")
    limiter.close()
