"""Limits are there without a table [limits]: by a program of their own, which is on interfaces while there are any."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from signal import SIGKILL
from threading import Event
from typing import Final

import pytest

from cnf.kernel import libbpf
from cnf.limits.table import NO_TABLE
from tests.net.arrivals import arrivals
from tests.net.at_tc import WITHOUT_TCX, programs
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon
from tests.net.flood import Sender, flood
from tests.net.rations import QUICK, enforce, packet, ration
from tests.net.wait import wait_for

ADMITTED: Final = "10.0.0.1"
DENIED: Final = "10.0.0.2"
BLOCKS: Final = 10
STATE: Final = Path(NO_TABLE.state_file)
N0: Final = ({"name": "n0"},)
_WITHOUT_LIMITS: Final = """
import sys
from cnf.datapath import build, load
from cnf.errors import VerifierError
def refuse(program, *others):
    if program.limiting:
        raise VerifierError("the kernel rejected the program: cnf_ingress: no")
    return load.load(program, *others)
build.load_program = refuse
from cnf.{module} import main
sys.exit(main())
"""
WITHOUT_LIMITS: Final[Sequence[str]] = (sys.executable, "-P", "-c", _WITHOUT_LIMITS.format(module="cnfd"))
"""A cnfd whose kernel takes no program with limits, as Linux 6.12 does without CAP_PERFMON."""

_SELDOM_LOOKING: Final = """
import sys
from cnf.daemon import loop
loop.RECONCILE_INTERVAL = 3600.0
from cnf.cnfd import main
sys.exit(main())
"""
SELDOM_LOOKING: Final[Sequence[str]] = (sys.executable, "-P", "-c", _SELDOM_LOOKING)
"""A cnfd that looks at its interfaces when something has happened."""


@pytest.fixture(autouse=True)
def _no_state() -> Iterator[None]:
    """Keep nothing of what a test has changed at run time."""
    yield
    STATE.unlink(missing_ok=True)


def attached(node: Node, mode: str) -> int:
    """Return the id of the program that receives on n0."""
    if mode == "tc":
        (program,) = programs(node.inside, "n0", "ingress")
        return program
    return node.inside.programs()["n0"]


def is_limiting(node: Node, mode: str = "native") -> bool:
    """Tell whether the program that receives on n0 is the one with limits."""
    program = libbpf.open_program(attached(node, mode))
    try:
        return "limit_groups" in libbpf.map_names(program)
    finally:
        os.close(program)


def _has_sent(sender: Sender, packets: int) -> bool:
    return sender.packets >= packets


def kill(daemon: Daemon) -> None:
    """End the daemon as a crash would."""
    daemon.signal(SIGKILL)
    daemon.ended()


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
@pytest.mark.parametrize(
    ("mode", "command"),
    [("native", CNFD), ("generic", CNFD), ("tc", CNFD), ("tc", WITHOUT_TCX)],
    ids=["native", "generic", "tcx", "clsact"],
)
def test_no_packet_is_lost_or_counted_twice_by_a_block(
    node: Node, mode: str, command: Sequence[str], table: str
) -> None:
    """Under a flood a source is blocked and let in again, without a table: every packet counts once, none passes."""
    wire = node.wire("n0")
    daemon = node.daemon(flows=QUICK | {"table": table})
    daemon.configure([{"name": "n0", "mode": mode}], flows=QUICK | {"table": table})
    daemon.command = command
    daemon.start()
    plain = attached(node, mode)
    assert not is_limiting(node, mode)
    senders = [Sender([packet(source)], 2000) for source in (ADMITTED, DENIED)]
    stop = Event()

    with arrivals(node.inside, "n0") as through, ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, wire, 120.0, *senders, stop=stop)
        try:
            for _ in range(BLOCKS):
                daemon.limits("deny", "add", DENIED)
                assert is_limiting(node, mode)
                stands = senders[1].packets + 100
                wait_for(partial(_has_sent, senders[1], stands), "packets that are denied")
                daemon.limits("deny", "remove", DENIED)
                assert attached(node, mode) == plain
        finally:
            stop.set()
        flooding.result()
        sent = sum(sender.packets for sender in senders)
        status = daemon.settle(sent)
        dropped = status["ledger"]["packets"]["dropped"]
        arrived = through.by_source(sent - dropped)

    ledger = status["ledger"]["packets"]
    assert (ledger["received"], ledger["difference"], ledger["live"]) == (sent, 0, sent - dropped)
    assert dropped >= BLOCKS * 100
    if mode != "tc":  # which comes after those who listen
        assert arrived == {ADMITTED: senders[0].packets, DENIED: senders[1].packets - dropped}
    flows = {flow["src_addr"]: (flow["packets"], flow["dropped_packets"]) for flow in daemon.flows()}
    assert flows == {ADMITTED: (senders[0].packets, 0), DENIED: (senders[1].packets - dropped, dropped)}


def test_a_rule_that_is_made_at_run_time_limits(node: Node) -> None:
    """Without a table it is enforced; every page has its counts; the last one that goes takes the program along."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    wire.send([packet(ADMITTED)] * 3)

    daemon.limits("set", "few", "--prefix", "10.0.0.0/8", "--bits-per-second", "8", "--burst-bytes", "2000")

    wire.send([packet(ADMITTED)] * 15)
    assert daemon.settle(18)["ledger"]["packets"]["dropped"] == 5
    assert [source["rule"] for source in daemon.limited_sources()] == ["few"]
    assert daemon.scrape().by("verdict", "cnf_limit_packets_total", rule="few")["limited"] == 5
    assert "rule few" in daemon.ctl("limits", "explain", ADMITTED).stdout
    daemon.limits("remove", "few")
    assert not is_limiting(node)
    wire.send([packet(ADMITTED)] * 5)
    assert daemon.settle(23)["ledger"]["packets"]["live"] == 18
    events = json.loads(daemon.control("/v1/events").body)["events"]
    assert [event["generation"] for event in events if event["event"] == "rule_generation"] == [2]


@pytest.mark.parametrize(
    ("first", "then"), [(True, True), (True, False), (False, True)], ids=["stays", "ends", "begins"]
)
def test_a_killed_daemon_is_followed_by_one_with_the_other_program(node: Node, first: bool, then: bool) -> None:  # noqa: FBT001 - columns of the table
    """Whichever program the daemon has left, the next one has the right one from its first packet, and all counts."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    if first:
        daemon.limits("deny", "add", DENIED)
    wire.send([packet(source) for source in (ADMITTED, DENIED)] * 5)
    kill(daemon)
    wire.send([packet(source) for source in (ADMITTED, DENIED)] * 5)
    assert is_limiting(node) is first
    if not then:
        STATE.unlink()
    elif not first:
        STATE.write_text(json.dumps({"deny_added": [f"{DENIED}/32"]}), encoding="ascii")

    daemon.start()

    assert is_limiting(node) is then
    wire.send([packet(source) for source in (ADMITTED, DENIED)] * 5)
    ledger = daemon.settle(30)["ledger"]["packets"]
    assert (ledger["received"], ledger["dropped"], ledger["difference"]) == (30, 10 * first + 5 * then, 0)
    daemon.stop()
    assert node.inside.programs() == {}


def test_detach_knows_either_program(node: Node) -> None:
    """What a daemon that was killed has left is taken off, pins and all, whichever of its programs it is."""
    node.wire("n0")
    for block in (False, True):
        daemon = node.daemon("n0", flows=QUICK).start()
        if block:
            daemon.limits("deny", "add", DENIED)
        kill(daemon)
        detached = daemon.ctl("detach", command=(*node.inside.enter, sys.executable, "-P", "-m", "cnf.cli"))
        assert detached.returncode == 0, detached.stderr
        assert node.inside.programs() == {}


def test_an_interface_that_comes_later_is_limited(node: Node) -> None:
    """It gets the program that is wanted at that time."""
    node.wire("n0")
    daemon = node.daemon("n0", "n1", flows=QUICK).start()
    daemon.limits("deny", "add", DENIED)

    wire = node.wire("n1")
    daemon.attached("n0", "n1")

    wire.send([packet(source) for source in (ADMITTED, DENIED)] * 5)
    assert daemon.settle(10)["ledger"]["packets"]["dropped"] == 5


def test_a_reload_adds_and_removes_the_table(node: Node) -> None:
    """Without a restart, but for the size of the tables."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()

    daemon.reload(N0, limits=enforce(ration("few", 10), max_sources=NO_TABLE.max_sources), flows=QUICK)

    assert is_limiting(node)
    wire.send([packet(ADMITTED)] * 15)
    assert daemon.settle(15)["ledger"]["packets"]["dropped"] == 5
    assert {event["key"] for event in daemon.events("changes at a restart only")} == {"limits.state_file"}
    daemon.reload(N0, flows=QUICK)
    assert not is_limiting(node)
    daemon.reload(N0, limits=enforce(ration("few", 10)), flows=QUICK)
    assert "limits.max_sources" in {event["key"] for event in daemon.events("changes at a restart only")}


def test_a_kernel_that_takes_no_limits(node: Node) -> None:
    """The daemon counts without them, and says so in its log, and to who asks for limits; rules are an error."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK)
    daemon.command = WITHOUT_LIMITS
    daemon.start()

    (warning,) = daemon.events("the kernel takes the program without limits only: nothing can be denied or limited")
    assert "CAP_PERFMON" in warning["remedy"]
    for words in (("limits",), ("limits", "deny", "add", DENIED), ("limits", "sources"), ("events",)):
        refused = daemon.ctl(*words)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (69, "", 1)
        assert "without limits only" in refused.stderr
        assert "CAP_PERFMON" in refused.stderr
    wire.send([packet(ADMITTED)] * 5)
    assert daemon.settle(5)["limiter"] is None
    daemon.stop()

    ruled = node.daemon("n0", limits=enforce(ration("few", 10)), flows=QUICK)
    ruled.command = WITHOUT_LIMITS
    status, line = ruled.refused()
    assert status == 71
    assert "the kernel rejected the program" in line


def test_the_heading_says_that_there_is_no_table(node: Node) -> None:
    """The mode is not from the file then, until it is changed at run time."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    assert daemon.ctl("limits").stdout.startswith("mode enforce (no table [limits]), ")
    daemon.limits("mode", "shadow")
    assert daemon.ctl("limits").stdout.startswith("mode shadow (runtime), ")


def test_the_status_knows_of_a_swap(node: Node) -> None:
    """By TC, where the kernel tells nobody, it has the program that is there, and not at the next look by time."""
    node.wire("n0")
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "tc"}], flows=QUICK)
    daemon.command = SELDOM_LOOKING
    daemon.start()
    for change in ("add", "remove"):
        daemon.limits("deny", change, DENIED)
        wait_for(partial(_shows, daemon, attached(node, "tc")), "the program in the status")


def _shows(daemon: Daemon, program: int) -> bool:
    (interface,) = daemon.status()["interfaces"]
    return bool(interface["program_id"] == program)
