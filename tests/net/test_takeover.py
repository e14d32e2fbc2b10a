"""A daemon that was killed, or has left the program on purpose, is followed by one that goes on where it stood."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM, SIGUSR2, Signals
from threading import Event
from typing import Any, Final

import numpy as np
import pytest
from pyroute2 import IPRoute

from cnf.abi import FLOW4_KEY, FLOW_VALUE, HANDOVER_PAGE
from cnf.datapath.handover_map import HandoverMap
from cnf.kernel import libbpf, pins
from cnf.kernel.hooks import HOOKS, RECEIVING, XDP
from cnf.kernel.maps import Array, FlowMap
from cnf.limiter.handover import from_json, to_json
from cnf.limits.layout import Numbering, Parameters, parameters
from cnf.limits.table import LIMITS, Limits
from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon
from tests.net.exposition import Exposition
from tests.net.flood import Sender, flood
from tests.net.foreign import foreign_program
from tests.net.programs import is_loaded
from tests.net.rations import QUICK, enforce, packet, ration, verdicts
from tests.net.wait import PATIENCE, wait_for

LIMITED: Final = "10.0.0.1"
OTHERS: Final = ("192.0.2.1", "2001:db8::1")
RATION: Final = enforce(ration("few", 10, ["10.0.0.0/8"], interfaces=["n*"]))
Tables = Mapping[str, Mapping[str, object]]
KILLS: Final = 5
RULES: Final = 10_000
TICKS: Final = 0.02
"""Seconds within which two daemons agree on when a packet came: each takes a reading of the clocks."""
IP_MODES: Final = {"native": 1, "generic": 2}
"""What ip(8) shows for the mode of a program."""
WITHOUT_BPFFS: Final = 'mount -t tmpfs -o ro tmpfs /sys/fs/bpf; exec "$@"'
WITHOUT_OVERRIDE: Final = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", *CNFD)
"""A cnfd for which files' modes hold, though it is root's."""
GOING_ON: Final = "going on with the flows and counters of the previous daemon"
DISCARDED: Final = "flows and counters of the previous daemon discarded"
UNREADABLE: Final = "handover discarded"

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_killed_time_and_again_under_a_flood(node: Node, folder: Path, table: str) -> None:
    """Of five kills in a row nothing is to be seen: every packet counts once, every limit holds, nothing piles up."""
    wire = node.wire("n0")
    node.inside.ip("link", "property", "add", "dev", "n0", "altname", "uplink")
    limits = enforce(ration("few", 10, ["10.0.0.0/8"], interfaces=["uplink"]))
    daemon = node.daemon("n0", limits=limits, flows=QUICK | {"table": table}).start()
    senders = [Sender([packet(source)], 300) for source in (LIMITED, *OTHERS)]
    stop = Event()
    with arrivals(node.inside, "n0") as through, ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, wire, 120.0, *senders, stop=stop)
        try:
            daemon.settle(100)
            first_seen = _first_seen(daemon)
            left = _pinned(folder)
            carrier, scrape = _carrier_changes(node, "n0"), daemon.scrape()
            for _time in range(KILLS):
                _kill(daemon)
                daemon.start()
                assert daemon.events(GOING_ON)
                scrape = _gone_on(scrape, daemon.scrape())
        finally:
            stop.set()
        flooding.result()
        sent = sum(sender.packets for sender in senders)
        status = daemon.settle(sent)
        arrived = through.by_source(10 + senders[1].packets + senders[2].packets)

    ledger = status["ledger"]["packets"]
    assert (ledger["received"], ledger["difference"]) == (sent, 0)
    assert arrived == {LIMITED: 10} | {sender: each.packets for sender, each in zip(OTHERS, senders[1:], strict=True)}
    assert verdicts(daemon.limits(), "few") == (10, senders[0].packets - 10, 0)
    assert _first_seen(daemon) == pytest.approx(first_seen, abs=TICKS)
    assert {flow["src_addr"]: flow["packets"] + flow["dropped_packets"] for flow in daemon.flows()} == {
        source: sender.packets for source, sender in zip((LIMITED, *OTHERS), senders, strict=True)
    }
    assert _carrier_changes(node, "n0") == carrier
    now = _pinned(folder)
    assert (now["maps"], len(now["programs"])) == (left["maps"], 2)
    assert node.inside.programs()["n0"] in now["programs"]
    daemon.stop()
    assert not folder.exists()


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_the_program_is_replaced_in_its_mode(node: Node, mode: str) -> None:
    """With mode "auto" the new program stands where the old one stood, whatever mode would be tried first."""
    wire = node.wire("n0")
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": mode}])
    daemon.start()
    wire.send([packet(OTHERS[0])] * 3)
    daemon.settle(3)
    (before,) = node.inside.programs().values()
    _kill(daemon)
    wire.send([packet(OTHERS[0])] * 4)

    daemon.configure([{"name": "n0", "mode": "auto"}])
    daemon.start()

    assert node.inside.links()["n0"]["xdp"]["mode"] == IP_MODES[mode]
    assert node.inside.programs()["n0"] != before
    assert daemon.interfaces()["n0"]["mode"] == mode
    assert daemon.settle(7)["ledger"]["packets"]["live"] == 7


@pytest.mark.parametrize("bucket", ["source", "prefix"])
def test_a_spent_bucket_stays_spent(node: Node, bucket: str) -> None:
    """A source that has had its burst gets none by the end of a daemon, none in the gap, and none by the next start."""
    wire = node.wire("n0")
    limits = enforce(ration("few", 10, ["10.0.0.0/8"], interfaces=["n*"], protocols=["udp"], bucket=bucket))
    daemon = node.daemon("n0", limits=limits, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)

    with arrivals(node.inside, "n0") as through:
        for _time in range(2):
            _kill(daemon)
            wire.send([packet(LIMITED), packet(OTHERS[0])] * 5)
            daemon.start()
            wire.send([packet(LIMITED), packet(OTHERS[0])] * 5)
        daemon.settle(12 + 40)
        assert through.by_source(20) == {OTHERS[0]: 20}

    assert verdicts(daemon.limits(), "few") == (10, 22, 0)


def test_a_program_that_was_replaced_is_freed(node: Node) -> None:
    """The daemon holds on to no program of the one before: the kernel has it no longer than an interface does."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    (replaced,) = node.inside.programs().values()
    _kill(daemon)

    daemon.start()

    assert replaced not in node.inside.programs().values()
    wait_for(lambda: not is_loaded(replaced), "the kernel to free the program")


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_left_on_purpose(node: Node, folder: Path, table: str) -> None:
    """With on_exit = "keep" an orderly end leaves program, limits and counts at work, and the next daemon goes on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK | {"idle_timeout": "100ms", "table": table})
    _keep(daemon)
    daemon.start()
    wire.send([packet(LIMITED)] * 4)
    daemon.settle(4)
    wait_for(lambda: daemon.status()["ledger"]["packets"]["expired"] == 4, "the flow to expire")
    scrape = daemon.scrape()
    program = node.inside.programs()
    left = _pinned(folder)

    daemon.stop()

    assert daemon.events("leaving the program on the interfaces")
    assert (node.inside.programs(), _pinned(folder)) == (program, left)
    with arrivals(node.inside, "n0") as through:
        wire.send([packet(LIMITED)] * 10)
        assert through.by_source(6) == {LIMITED: 6}
    daemon.start()
    _gone_on(scrape, daemon.scrape())
    ledger = daemon.settle(14)["ledger"]["packets"]
    assert (ledger["live"] + ledger["expired"], ledger["dropped"], ledger["evicted"]) == (10, 4, 0)
    assert verdicts(daemon.limits(), "few") == (10, 4, 0)


def test_left_for_a_restart(node: Node, folder: Path) -> None:
    """SIGUSR2 ends the daemon as a restart needs it, whatever on_exit says: limits hold, and the next one goes on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    program, left = node.inside.programs(), _pinned(folder)

    daemon.signal(SIGUSR2)
    daemon.signal(SIGTERM)  # systemd's, behind it
    assert daemon.ended() == 0

    assert (node.inside.programs(), _pinned(folder)) == (program, left)
    with arrivals(node.inside, "n0") as through:
        wire.send([packet(LIMITED), packet(OTHERS[0])] * 3)
        assert through.by_source(3) == {OTHERS[0]: 3}
    daemon.start()
    assert daemon.settle(18)["ledger"]["packets"]["dropped"] == 5


@pytest.mark.parametrize("number", [SIGTERM, SIGUSR2])
def test_stopped_before_it_has_taken_over(node: Node, folder: Path, tmp_path: Path, number: Signals) -> None:
    """A stop while the program is compiled takes back what the daemon before has left; SIGUSR2 leaves it once more."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    program = node.inside.programs()
    _kill(daemon)
    daemon.keep_programs_in(tmp_path).launch()
    wait_for(daemon.compiler, "the compiler to start")

    daemon.signal(number)

    assert daemon.ended() == 0
    assert node.inside.programs() == ({} if number == SIGTERM else program)
    assert folder.exists() == (number == SIGUSR2)


def test_interfaces_that_have_gone_meanwhile(node: Node, folder: Path) -> None:
    """What an interface has counted stays under its name, be it gone, or no longer wanted: then it is let go, too."""
    wires = {name: node.wire(name) for name in ("n0", "n1", "n2")}
    daemon = node.daemon("n0", "n1", "n2").start()
    for packets, wire in enumerate(wires.values(), start=1):
        wire.send([packet(OTHERS[0])] * packets)
    daemon.settle(6)
    scrape = daemon.scrape()
    _kill(daemon)
    wires["n1"].delete()
    wires["n2"].send([packet(OTHERS[0])] * 4)

    daemon.configure([{"name": "n0"}])
    daemon.start()

    assert node.inside.programs().keys() == {"n0"}
    assert _pinned(folder)["programs"] > {*node.inside.programs().values()}
    later = _gone_on(scrape, daemon.scrape())
    assert later.by("interface", "cnf_received_packets_total") == {"n0": 1, "n1": 2, "n2": 7}
    _kill(daemon)
    daemon.start()
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 1, "n1": 2, "n2": 7}
    assert daemon.settle(10)["ledger"]["packets"]["difference"] == 0


def test_what_nobody_confirmed_is_not_left(node: Node) -> None:
    """A change that waits for a confirmation ends with the daemon, also where the rules stay in the kernel."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("few", 10, ["10.0.0.0/8"])), flows=QUICK)
    _keep(daemon)
    daemon.start()
    daemon.limits("deny", "add", OTHERS[0], "--confirm", "10m")

    daemon.stop()

    with arrivals(node.inside, "n0") as through:
        wire.send([packet(OTHERS[0])] * 3)
        assert through.by_source(3) == {OTHERS[0]: 3}


def test_a_reload_changes_what_becomes_of_it(node: Node, folder: Path) -> None:
    """on_exit is what the file says when the daemon ends."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    _keep(daemon)
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")
    daemon.stop()
    assert node.inside.programs().keys() == {"n0"}

    daemon.start()
    daemon.configure([{"name": "n0"}])
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")
    daemon.stop()

    assert node.inside.programs() == {}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"flows": {"max_entries": 8192}}, id="larger"),
        pytest.param({}, {"flows": {"table": "lru_hash"}}, id="a hash in place of a cache"),
        pytest.param({"flows": {"table": "lru_hash"}}, {}, id="a cache in place of a hash"),
        pytest.param(
            {"flows": {"table": "lru_hash"}},
            {"flows": {"table": "lru_hash", "max_entries": 8192}},
            id="a larger hash",
        ),
        pytest.param({}, {"limits": RATION}, id="limits added"),
        pytest.param({"limits": RATION}, {}, id="limits removed"),
    ],
)
def test_another_layout_starts_anew(node: Node, folder: Path, before: Tables, after: Tables) -> None:
    """Maps made for another configuration are given up, which is said once; the program is replaced as ever."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", **before).start()
    wire.send([packet(OTHERS[0])] * 3)
    daemon.settle(3)
    left, carrier = _pinned(folder), _carrier_changes(node, "n0")
    _kill(daemon)

    daemon.configure([{"name": "n0"}], **after)
    daemon.start()

    (warning,) = daemon.events(DISCARDED)
    assert "another configuration" in warning["reasons"][0]
    assert not daemon.events("program detached")
    assert not daemon.events("left-behind program detached")
    now = _pinned(folder)
    assert now["maps"].isdisjoint(left["maps"])
    assert node.inside.programs()["n0"] in now["programs"]
    wire.send([packet(OTHERS[0])] * 2)
    assert daemon.settle(2)["ledger"]["packets"]["received"] == 2
    assert _carrier_changes(node, "n0") == carrier


def test_what_a_namespace_that_is_gone_has_left(node: Node, folder: Path) -> None:
    """A namespace that was given the inode number of one that is gone does not go on with that one's flows."""
    wire = node.wire("n0")
    gone = node.daemon(wire.far_name)
    gone.namespace = node.outside
    gone.start()
    _kill(gone)
    path = node.outside.pins
    left = _pinned(path)["maps"]
    path.rename(folder)

    daemon = node.daemon("n0").start()

    assert len(daemon.events(DISCARDED)) == 1
    assert not daemon.events(GOING_ON)
    assert _pinned(folder)["maps"].isdisjoint(left)
    assert node.inside.programs()["n0"] in _pinned(folder)["programs"]


def _rubbish(folder: Path) -> None:
    with _opened(folder, "handover") as fd:
        Array("handover", fd, HANDOVER_PAGE).write(0, np.full((), 0x5A, np.uint8).repeat(4096).view(HANDOVER_PAGE)[0])


def _blank(folder: Path) -> None:
    with _opened(folder, "handover") as fd:
        Array("handover", fd, HANDOVER_PAGE).write(0, np.zeros((), HANDOVER_PAGE))


@pytest.mark.parametrize("damage", [_rubbish, _blank])
def test_a_handover_that_cannot_be_read(node: Node, folder: Path, damage: Callable[[Path], None]) -> None:
    """What nobody can make sense of is an error in the log; then flows, counts and limits start anew, and are right."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    maps = _pinned(folder)["maps"]
    _kill(daemon)
    damage(folder)

    daemon.start()

    assert [event["level"] for event in daemon.events(UNREADABLE)] == ["error"]
    assert _pinned(folder)["maps"].isdisjoint(maps)
    wire.send([packet(LIMITED)] * 15)
    ledger = daemon.settle(15)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (15, 5, 0)
    assert verdicts(daemon.limits(), "few") == (10, 5, 0)
    daemon.stop()
    assert not folder.exists()


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
@pytest.mark.parametrize("part", ["tracker", "interfaces", "series", "sources"])
def test_a_part_that_cannot_be_read(node: Node, folder: Path, part: str, table: str) -> None:
    """A part that makes no sense is named in the log; maps, flows and tokens go on, and the ledger adds up."""
    wire = node.wire("n0")
    gone = node.wire("n1")
    daemon = node.daemon("n*", limits=RATION, flows=QUICK | {"table": table}).start()
    gone.send([packet(OTHERS[0])] * 4)
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(16)
    node.inside.ip("link", "delete", "n1")
    daemon.wait_for_event("interface gone")
    daemon.settle(16)
    maps = _pinned(folder)["maps"]
    _kill(daemon)
    with _opened(folder, "handover") as fd:
        HandoverMap(fd).put(**{part: {"ipv4": "many"}})

    daemon.start()

    (event,) = daemon.events("part of the handover discarded")
    assert (event["level"], event["part"]) == ("error", part)
    assert _pinned(folder)["maps"] == maps
    wire.send([packet(LIMITED)] * 3)
    ledger = daemon.settle(19)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (19, 5, 0)
    assert verdicts(daemon.limits(), "few") == (10, 5, 0)


def test_rules_that_cannot_be_read(node: Node, folder: Path) -> None:
    """Where the rules in the kernel cannot be told, limits start anew with full buckets; flows and counters go on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    first_seen, maps = _first_seen(daemon), _pinned(folder)["maps"]
    _kill(daemon)
    with _opened(folder, "handover") as fd:
        HandoverMap(fd).put(limiter={"before": "many"})

    daemon.start()

    (event,) = daemon.events(UNREADABLE)
    assert "part limiter" in event["error"]
    assert event["effect"] == "limits start with full buckets"
    now = _pinned(folder)["maps"]
    assert now != maps
    assert now & maps
    wire.send([packet(LIMITED)] * 15)
    ledger = daemon.settle(27)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (27, 7, 0)
    assert verdicts(daemon.limits(), "few") == (10, 5, 0)
    assert _first_seen(daemon) == pytest.approx(first_seen, abs=TICKS)
    daemon.stop()
    assert not folder.exists()


def test_a_map_whose_pin_cannot_be_opened(node: Node, folder: Path) -> None:
    """Where the pin of one map cannot be opened, a line names it, and flows, counts and limits start anew, exactly."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    before, maps = node.inside.programs()["n0"], _pinned(folder)["maps"]
    _kill(daemon)
    (pin,) = folder.glob("maps-*/limit_rules")
    pin.chmod(0)
    daemon.command = WITHOUT_OVERRIDE

    daemon.start()

    (event,) = daemon.events(DISCARDED)
    assert event["reasons"] == ["limit_rules is none of this version's maps"]
    assert _pinned(folder)["maps"].isdisjoint(maps)
    assert node.inside.programs()["n0"] != before
    wire.send([packet(LIMITED)] * 15)
    ledger = daemon.settle(15)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (15, 5, 0)
    daemon.stop()
    assert not folder.exists()


def test_a_program_whose_pin_cannot_be_opened(node: Node, folder: Path) -> None:
    """A program that cannot be told to be cnfd's is left at work with its maps and limits, and what to do is said."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    before = node.inside.programs()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    _kill(daemon)
    pin = folder / str(before["n0"])
    pin.chmod(0)
    daemon.command = WITHOUT_OVERRIDE

    status, line = daemon.refused()

    assert status == 71, line
    assert f"program {before['n0']} " in line
    assert node.inside.programs() == before
    pin.chmod(0o600)
    daemon.start()
    assert daemon.events(GOING_ON)
    wire.send([packet(LIMITED)] * 15)
    ledger = daemon.settle(27)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (27, 17, 0)


@pytest.mark.parametrize("rules", [("few",), ()], ids=["limits in force", "none in force"])
def test_killed_before_the_switch_to_other_rules(node: Node, folder: Path, rules: tuple[str, ...]) -> None:
    """Rules that were written down, but never switched to, are not taken for those in the kernel."""
    wire = node.wire("n0")
    few = ration("few", 10, ["10.0.0.0/8"])
    daemon = node.daemon("n0", limits=enforce(*[few][: len(rules)]), flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    _kill(daemon)
    planned = _parameters(few), _parameters(ration("more", 50, ["10.0.0.0/8"]))
    with _opened(folder, "handover") as fd:
        handover_map = HandoverMap(fd)
        document = handover_map.part("limiter")
        assert document
        known = from_json(document, document["generation"], 2048)
        numbers = known.numbering.rules.renewed(planned)
        to_come = known.followed_by(Numbering(numbers, known.numbering.shared), known.groups, known.past, known.past)
        handover_map.put(limiter=to_json(document["generation"] + 1, known, to_come))

    daemon.configure([{"name": "n0"}], limits=enforce(few), flows=QUICK)
    daemon.start()

    wire.send([packet(LIMITED)] * 12)
    daemon.settle(24)
    assert verdicts(daemon.limits(), "few") == ((10, 14, 0) if rules else (10, 2, 0))


def test_killed_with_thousands_of_rules_renamed(node: Node) -> None:
    """After a kill, of 10,000 rules those with their old names have their buckets still; all flows and counts go on."""
    wire = node.wire("n0")
    sources = {"stays": _source_of(1), "renamed": _source_of(RULES - 1)}
    packets = [packet(source) for source in sources.values()] * 12
    daemon = node.daemon("n0", limits=_many(""), flows=QUICK).start()
    with arrivals(node.inside, "n0") as through:
        wire.send(packets)
        assert through.by_source(20) == dict.fromkeys(sources.values(), 10)
        daemon.settle(len(packets))
        for times in (1, 2):
            _kill(daemon)
            daemon.configure([{"name": "n0"}], limits=_many(str(times), RULES // 2), flows=QUICK)
            daemon.start()
            assert daemon.events(GOING_ON)
            wire.send(packets)
            ledger = daemon.settle((1 + times) * len(packets))["ledger"]["packets"]
            assert (ledger["received"], ledger["difference"]) == ((1 + times) * len(packets), 0)
            passed = {sources["stays"]: 10, sources["renamed"]: 10 * (1 + times)}
            assert through.by_source(sum(passed.values())) == passed
            assert ledger["live"] == sum(passed.values())


def test_killed_with_no_room_for_the_rules_names(node: Node) -> None:
    """Where the names of 10,000 rules find no room beside those of a killed daemon, a start works, and says so."""
    wire = node.wire("n0")
    source = _source_of(RULES - 1)
    daemon = node.daemon("n0", limits=_many("", names=_dense), flows=QUICK).start()
    with arrivals(node.inside, "n0") as through:
        for times in (1, 2):
            _kill(daemon)
            daemon.configure([{"name": "n0"}], limits=_many(str(times), names=_dense), flows=QUICK)
            daemon.launch()
            # which may begin twice, and then compile twice
            wait_for(lambda: daemon.events("ready"), "the daemon to be ready", 2 * PATIENCE)
            wire.send([packet(source)] * 12)
            assert through.by_source(10 * times) == {source: 10 * times}

        (discarded,) = daemon.events(UNREADABLE)
        assert discarded["error"].startswith("there is no room for other rules beside those in force: ")
        assert discarded["effect"] == "limits start with full buckets"
        ledger = daemon.settle(24)["ledger"]["packets"]
        assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (24, 4, 0)


def test_killed_before_expired_flows_were_noted(node: Node, folder: Path) -> None:
    """Flows that were taken out of the table, and not noted any more, stand as evicted: the ledger adds up."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows={"table": "lru_hash"}).start()
    wire.send([packet(OTHERS[0])] * 3)
    daemon.settle(3)
    _kill(daemon)
    with _opened(folder, "flows4") as fd:
        table = FlowMap("flows4", fd, FLOW4_KEY, FLOW_VALUE)
        taken = [table.take(keys.copy()) for keys, _values in table.batches()]
    assert sum(map(len, (values for values, _found, _error in taken))) == 1

    daemon.start()

    wire.send([packet(OTHERS[0])] * 2)
    ledger = daemon.settle(5)["ledger"]["packets"]
    assert (ledger["live"], ledger["evicted"], ledger["difference"]) == (2, 3, 0)


def test_a_start_that_fails_leaves_what_was_there(node: Node, folder: Path, tmp_path: Path) -> None:
    """After a crash, no start that comes to nothing touches the program, its pins or its maps; the next goes on."""
    wire = node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    _kill(daemon)
    left = _pinned(folder), node.inside.programs()

    with _taken_port(node):
        assert daemon.refused()[0] == 69
    assert (_pinned(folder), node.inside.programs()) == left

    with foreign_program() as foreign:
        foreign.attach(node.inside, "n1")
        daemon.configure([{"name": "n1"}], limits=RATION, flows=QUICK)
        assert daemon.refused()[0] == 71
        daemon.configure([{"name": "n1"}], limits=RATION, flows={"max_entries": 64})
        assert daemon.refused()[0] == 71
        foreign.detach(node.inside, "n1")
    assert (_pinned(folder), node.inside.programs()) == left

    daemon.configure([{"name": "n0"}], limits=RATION, flows=QUICK)
    daemon.environment["PYTHONPATH"] = _without_bcc(tmp_path)
    assert daemon.refused()[0] == 69
    assert (_pinned(folder), node.inside.programs()) == left

    del daemon.environment["PYTHONPATH"]
    daemon.start()
    wire.send([packet(LIMITED)] * 3)
    ledger = daemon.settle(15)["ledger"]["packets"]
    assert (ledger["dropped"], ledger["difference"]) == (5, 0)


@pytest.mark.parametrize("failing", ["every interface refused", "limits refused"])
def test_a_start_that_fails_leaves_the_limits(node: Node, folder: Path, failing: str) -> None:
    """A start with other limits that comes to nothing, however late, has them in force for no packet."""
    wire = node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK).start()
    wire.send([packet(LIMITED)] * 12)
    daemon.settle(12)
    _kill(daemon)
    left, carrier = (_pinned(folder), node.inside.programs()), _carrier_changes(node, "n0")

    more = enforce(ration("few", 50, ["10.0.0.0/8"], interfaces=["n*"]), deny=[f"{OTHERS[0]}/32"])
    with arrivals(node.inside, "n0") as through, foreign_program() as foreign:
        foreign.attach(node.inside, "n1")
        if failing == "every interface refused":
            daemon.configure([{"name": "n1"}], limits=more, flows=QUICK)
            assert daemon.refused()[0] == 71
        else:
            daemon.configure([{"name": "n0"}], limits=more, flows=QUICK)
            daemon.state_file.parent.mkdir(exist_ok=True)
            daemon.state_file.write_text("{", encoding="utf-8")
            assert daemon.refused()[0] == 78
            assert daemon.events("previous program is back")
            daemon.state_file.unlink()
        foreign.detach(node.inside, "n1")
        assert (_pinned(folder), node.inside.programs()) == left
        wire.send([packet(LIMITED), packet(OTHERS[0])] * 3)
        assert through.by_source(3) == {OTHERS[0]: 3}

    assert _carrier_changes(node, "n0") == carrier
    daemon.configure([{"name": "n0"}], limits=RATION, flows=QUICK)
    daemon.start()
    ledger = daemon.settle(18)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (18, 5, 0)
    assert verdicts(daemon.limits(), "few") == (10, 5, 0)


def test_a_first_start_that_fails_leaves_no_pins(node: Node, folder: Path, tmp_path: Path) -> None:
    """Where nothing was before, nothing is after a start that came to nothing, however far it came."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with _taken_port(node):
        assert daemon.refused()[0] == 69
        assert not folder.exists()
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")
        assert daemon.refused()[0] == 71
        assert not folder.exists()
        foreign.detach(node.inside, "n0")
    daemon.launch()
    wait_for(lambda: folder.exists() and any(path.name == "flows4" for path in folder.glob("*/*")), "maps to be pinned")
    daemon.signal(SIGTERM)
    assert daemon.ended() == 0
    assert not folder.exists()
    daemon.environment["PYTHONPATH"] = _without_bcc(tmp_path)
    assert daemon.refused()[0] == 69
    assert not folder.exists()


def test_without_bpffs_all_else_works(node: Node, folder: Path) -> None:
    """Where nothing can be pinned, the daemon says what that means, counts and limits, and takes everything back."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=RATION, flows=QUICK)
    daemon.command = ("unshare", "--mount", "sh", "-c", WITHOUT_BPFFS, "sh", *CNFD)
    daemon.start()

    (warning,) = daemon.events("program not pinned")
    assert warning["remedy"]
    wire.send([packet(LIMITED)] * 12)
    ledger = daemon.settle(12)["ledger"]["packets"]
    assert (ledger["dropped"], ledger["difference"]) == (2, 0)
    daemon.stop()
    assert node.inside.programs() == {}
    assert not folder.exists()


def _many(name: str, first: int = 0, names: Callable[[bytes], str] = bytes.hex) -> dict[str, Any]:
    """Return RULES rules with names that nothing makes shorter, and ``name`` in those from ``first`` on."""

    def named(number: int) -> str:
        return names(hashlib.sha384(f"{number} {name if number >= first else ''}".encode()).digest())[:64]

    return enforce(*(ration(named(number), 10, [f"{_source_of(number)}/32"]) for number in range(RULES)))


def _dense(digest: bytes) -> str:
    """Return the name that says most in 64 letters."""
    return base64.urlsafe_b64encode(digest).decode()


def _source_of(number: int) -> str:
    """Return the address that a rule of ``_many()`` is for."""
    return f"10.1.{number >> 8}.{number & 255}"


def _kill(daemon: Daemon) -> None:
    daemon.signal(SIGKILL)
    assert daemon.ended() == -SIGKILL


def _keep(daemon: Daemon) -> None:
    daemon.config.write_text(f'on_exit = "keep"\n{daemon.config.read_text(encoding="utf-8")}', encoding="utf-8")


def _first_seen(daemon: Daemon) -> dict[str, float]:
    return {flow["src_addr"]: datetime.fromisoformat(flow["first_seen"]).timestamp() for flow in daemon.flows()}


def _pinned(folder: Path) -> dict[str, set[int]]:
    """Return the ids of what is pinned: those of XDP and the maps; beside them those of TC, and nothing else."""
    programs, maps, names = set(), set(), []
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        fd = libbpf.open_pin(path)
        try:
            if path.parent == folder:
                names.append(libbpf.name_of(fd))
                programs |= {libbpf.program_id(fd)} if names[-1] == XDP.entry else set()
            else:
                maps.add(libbpf.map_info(fd).id)
        finally:
            os.close(fd)
    assert sorted(names) in ([], sorted(hook.entry for hook in (*HOOKS, *RECEIVING)))
    return {"programs": programs, "maps": maps}


class _opened:  # noqa: N801 - a context manager reads like a function
    """A pinned map's descriptor for the length of the block."""

    def __init__(self, folder: Path, name: str) -> None:
        (path,) = folder.glob(f"maps-*/{name}")
        self._fd = libbpf.open_pin(path)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _gone_on(before: Exposition, after: Exposition) -> Exposition:
    """Check that no counter which is in both has gone down; return the later."""
    earlier, later = _counters(before), _counters(after)
    common = earlier.keys() & later.keys()
    assert {name for name, _labels in common} >= {"cnf_received_packets_total", "cnf_flow_packets_total"}
    assert {series: (earlier[series], later[series]) for series in common if later[series] < earlier[series]} == {}
    return after


def _counters(exposition: Exposition) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in exposition.families
        for sample in family.samples
        if sample.name.startswith("cnf_") and sample.name.endswith("_total")
    }


def _carrier_changes(node: Node, name: str) -> int:
    with node.inside.entered(), IPRoute() as netlink:
        (link,) = netlink.get_links(socket.if_nametoindex(name))
    return int(link.get_attr("IFLA_CARRIER_CHANGES"))


def _parameters(rule: dict[str, Any]) -> Parameters:
    limits: Limits = LIMITS(enforce(rule), "limits")
    return parameters(limits.rules[0])


def _taken_port(node: Node) -> socket.socket:
    taken = node.inside.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind(("127.0.0.1", 9995))
    taken.listen()
    return taken


def _without_bcc(folder: Path) -> str:
    (folder / "bcc.py").write_text("raise ImportError('no such module')", encoding="utf-8")
    return os.pathsep.join((str(folder), str(Path(pins.__file__).parents[2])))
