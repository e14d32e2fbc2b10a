"""The program at TC, by TCX and by clsact: both directions, and all that holds of XDP: ownership, restarts, ends."""

from __future__ import annotations

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM
from threading import Event
from typing import Any, Final

import pytest

from cnf.errors import AttachError
from cnf.kernel import libbpf
from cnf.kernel.attacher import Ours
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS
from cnf.kernel.links import ARPHRD_ETHER, Link
from cnf.kernel.tc import TcAttacher
from tests.bpf.packets import UDP, IPv4, frame
from tests.net import at_tc
from tests.net.at_tc import OK, all_programs, foreign_tc, programs, qdiscs
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, CNFD, Daemon
from tests.net.flood import Sender, flood
from tests.net.foreign import foreign_program
from tests.net.namespaces import Namespace, Wire
from tests.net.rations import QUICK, enforce, packet, ration, verdicts
from tests.net.users import Stage, as_user
from tests.net.wait import PATIENCE, wait_for

IN: Final = frame(IPv4(src="192.0.2.1", dst="198.51.100.1"), UDP(), bytes(100))
OUT: Final = frame(IPv4(src="198.51.100.1", dst="192.0.2.1"), UDP(), bytes(200))
BOTH: Final = {"mode": "tc", "directions": ["ingress", "egress"]}
WITHOUT_BPFFS: Final = 'mount -t tmpfs -o ro tmpfs /sys/fs/bpf; exec "$@"'

needs_tcx = pytest.mark.skipif(not at_tc.kernel_has_tcx(), reason="no TCX before Linux 6.6")
each_hook = pytest.mark.parametrize("hook", [pytest.param("tcx", marks=needs_tcx), "clsact"])

pytestmark = pytest.mark.usefixtures("folder")


def daemon_at(node: Node, hook: str, *names: str, **tables: Any) -> Daemon:  # noqa: ANN401 - as Daemon takes them
    """Return a daemon that counts both directions of these interfaces at TC."""
    tables = {"flows": {"idle_timeout": "1h"}} | tables
    daemon = node.daemon()
    daemon.command = CNFD if hook == "tcx" else at_tc.WITHOUT_TCX
    daemon.configure([{"name": name, **BOTH} for name in names or ("n0",)], **tables)
    return daemon


def send_out(node: Node, name: str, count: int) -> None:
    """Send so many packets from the node's interface."""
    with node.inside.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((name, 0))
        for _ in range(count):
            raw.send(OUT)


def counted(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Return packets and bytes of the flows, by direction."""
    return {flow["direction"]: (flow["packets"], flow["bytes"]) for flow in daemon.flows()}


def counts(daemon: Daemon, ingress: int, egress: int) -> None:
    """Wait until so many packets are counted, and see that there are no more of them."""
    expected = {"ingress": (ingress, ingress * len(IN)), "egress": (egress, egress * len(OUT))}
    expected = {direction: count for direction, count in expected.items() if count[0]}
    wait_for(lambda: counted(daemon) == expected, f"{expected} in the flows")
    daemon.drain()
    assert counted(daemon) == expected


def attached(daemon: Daemon, name: str = "n0") -> dict[str, dict[str, Any]]:
    """Return how the interface's directions are attached, by direction."""
    return {there["direction"]: there for there in daemon.interfaces()[name]["directions"]}


def kill(daemon: Daemon) -> None:
    """End the daemon without a chance to clean up."""
    daemon.signal(SIGKILL)
    daemon.ended()


def detach(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cnfctl detach."""
    whole = (*node.inside.enter, *CNFCTL, *arguments, "detach")
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=PATIENCE)


def nothing_is_left(node: Node, folder: Path, *names: str) -> None:
    """Wait until there is neither program, qdisc, nor pin."""
    for name in names or ("n0",):
        wait_for(lambda name=name: not all_programs(node.inside, name), f"no program on {name}")  # type: ignore[misc]
        assert qdiscs(node.inside, name) == []
    assert not folder.exists()


@each_hook
def test_both_directions_are_counted(node: Node, folder: Path, hook: str) -> None:
    """What comes in and what goes out are flows of their own, to the byte; a stop takes all of it back."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook).start()
    wire.send([IN] * 3)
    send_out(node, "n0", 4)
    counts(daemon, 3, 4)

    there = attached(daemon)
    assert {direction: (each["mode"], each["hook"]) for direction, each in there.items()} == {
        "ingress": ("tc", hook),
        "egress": ("tc", hook),
    }
    assert all_programs(node.inside, "n0") == {direction: [each["program_id"]] for direction, each in there.items()}
    assert daemon.scrape().by("direction", "cnf_interface_attached") == {"ingress": 1, "egress": 1}
    daemon.stop()
    nothing_is_left(node, folder)


@each_hook
def test_killed_time_and_again_under_traffic(node: Node, folder: Path, hook: str) -> None:
    """A daemon that goes on after a kill replaces the programs in one step: no packet passes uncounted or unlimited."""
    wire = node.wire("n0")
    limits = enforce(ration("few", 10, ["10.0.0.0/8"], interfaces=["n*"]))
    daemon = daemon_at(node, hook, limits=limits, flows=QUICK).start()
    senders = [Sender([packet(source)], 300) for source in ("10.0.0.1", "192.0.2.1")]
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, wire, 120.0, *senders, stop=stop)
        try:
            daemon.settle(100)
            for _time in range(3):
                kill(daemon)
                daemon.start()
                assert daemon.events("going on with the flows and counters of the previous daemon")
        finally:
            stop.set()
        flooding.result()
    sent = sum(sender.packets for sender in senders)
    wait_for(lambda: daemon.scrape().total("cnf_received_packets_total") >= sent, f"{sent} packets")
    assert daemon.scrape().total("cnf_received_packets_total") == sent
    assert verdicts(daemon.limits(), "few") == (10, senders[0].packets - 10, 0)
    assert {*map(len, all_programs(node.inside, "n0").values())} == {1}
    daemon.stop()
    nothing_is_left(node, folder)


@each_hook
def test_left_on_purpose(node: Node, folder: Path, hook: str) -> None:
    """With on_exit = "keep" the programs count on after the end, and the next daemon has it all."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook)
    daemon.config.write_text('on_exit = "keep"\n' + daemon.config.read_text(encoding="utf-8"), encoding="utf-8")
    daemon.start().stop()
    left = all_programs(node.inside, "n0")
    assert {*left} == {"ingress", "egress"}
    wire.send([IN] * 3)
    send_out(node, "n0", 2)
    daemon.start()
    counts(daemon, 3, 2)
    now = all_programs(node.inside, "n0")
    assert [now[direction] != left[direction] and len(now[direction]) == 1 for direction in now] == [True, True]
    kill(daemon)
    done = detach(node)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "detached from n0")
    nothing_is_left(node, folder)


@each_hook
def test_a_start_that_fails_puts_the_programs_back(node: Node, hook: str) -> None:
    """A start that comes to nothing after it has attached leaves the previous daemon's programs, and they count."""
    wire = node.wire("n0")
    limits = enforce(ration("few", 10, ["10.0.0.0/8"]))
    daemon = daemon_at(node, hook, limits=limits, flows=QUICK).start()
    kill(daemon)
    left = all_programs(node.inside, "n0")
    daemon.state_file.parent.mkdir(exist_ok=True)
    daemon.state_file.write_text("{", encoding="utf-8")
    assert daemon.refused()[0] == 78
    assert len(daemon.events("previous program is back")) == 2
    assert all_programs(node.inside, "n0") == left
    wire.send([IN] * 3)
    daemon.state_file.unlink()
    daemon.start()
    counts(daemon, 3, 0)


@each_hook
def test_interfaces_come_and_go(node: Node, folder: Path, hook: str) -> None:
    """An interface that is made again, or renamed, is counted on, and no pin of one that has gone stays."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook, "n*").start()
    wire.send([IN] * 2)
    counts(daemon, 2, 0)
    wire.delete()
    daemon.attached()
    assert not [*folder.glob("links/*")]

    wire = node.wire("n1")
    daemon.attached("n1")
    node.inside.ip("link", "set", "n1", "name", "n2")
    daemon.attached("n2")
    wire.send([IN] * 3)
    wait_for(lambda: daemon.scrape().by("interface", "cnf_received_packets_total").get("n2") == 3, "3 packets of n2")
    assert not daemon.events("program was taken off by somebody else, putting it back")


@each_hook
def test_an_interface_that_moves_away(node: Node, folder: Path, hook: str) -> None:
    """In another namespace the interface has no program of ours any more; back again, it has."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook).start()
    with Namespace() as elsewhere:
        node.inside.ip("link", "set", "n0", "netns", elsewhere.name)
        daemon.attached()
        wait_for(lambda: not all_programs(elsewhere, "n0"), "the programs to go")
        assert not [*folder.glob("links/*")]
        elsewhere.ip("link", "set", "n0", "netns", node.inside.name)
    daemon.attached("n0")
    node.inside.ip("link", "set", "n0", "up")
    wire.send([IN] * 2)
    counts(daemon, 2, 0)


@needs_tcx
def test_links_of_a_killed_daemon_on_interfaces_that_have_moved(node: Node, folder: Path) -> None:
    """What a killed daemon has left on an interface of another namespace is taken off by the next daemon's start."""
    node.wire("n0")
    node.wire("n1")
    daemon = daemon_at(node, "tcx", "n*").start()
    kill(daemon)
    with Namespace() as elsewhere:
        node.inside.ip("link", "set", "n0", "netns", elsewhere.name)
        assert {*all_programs(elsewhere, "n0")} == {"ingress", "egress"}
        daemon.start()
        assert all_programs(elsewhere, "n0") == {}
        assert len([*folder.glob("links/*")]) == 2


@each_hook
def test_a_program_that_was_taken_off_is_put_back(node: Node, folder: Path, hook: str) -> None:
    """Somebody who takes it off at TC finds it there again, and the log says so."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook).start()
    if hook == "clsact":
        subprocess.run(("tc", "-n", node.inside.name, "qdisc", "del", "dev", "n0", "clsact"), check=True)
    else:
        for pin in folder.glob("links/*"):
            link = libbpf.open_pin(pin)
            assert libbpf.library().bpf_link_detach(link) == 0
            os.close(link)
    event = daemon.wait_for_event("program was taken off by somebody else, putting it back", 2)
    assert event["direction"] == "egress"
    wait_for(lambda: {*all_programs(node.inside, "n0")} == {"ingress", "egress"}, "the programs")
    wire.send([IN] * 2)
    counts(daemon, 2, 0)


@needs_tcx
def test_other_programs_at_tcx(node: Node) -> None:
    """Ours comes before one that is there; one that comes before ours hides packets, is named, and stays."""
    wire = node.wire("n0")
    daemon = daemon_at(node, "tcx")
    with foreign_tc(OK, "ender") as there, foreign_tc(OK, "first") as late:
        there.attach(node.inside, "n0", "ingress")
        daemon.start()
        assert programs(node.inside, "n0", "ingress")[1:] == [there.id]
        wire.send([IN] * 2)
        counts(daemon, 2, 0)
        assert daemon.interfaces()["n0"]["warning"] is None

        late.attach(node.inside, "n0", "ingress")
        warning = daemon.wait_for_event("others see packets first")["warning"]
        assert f"program {late.id} (named first) before cnfd's program at ingress" in warning
        shown = daemon.interfaces()["n0"]
        assert (shown["state"], shown["warning"]) == ("attached", warning)
        doctor = daemon.ctl("doctor", "--config", str(daemon.config), command=(*node.inside.enter, *CNFCTL))
        assert f"ingress: program {late.id} (named first) runs before cnfd's program" in doctor.stdout
        wire.send([IN] * 3)
        counts(daemon, 2, 0)

        daemon.stop()
        wait_for(lambda: programs(node.inside, "n0", "ingress") == [late.id, there.id], "ours alone to go")
        late.detach()
        there.detach()


def test_other_filters_at_clsact(node: Node) -> None:
    """Ours comes before a filter of the same priority; that one, and the qdisc, stay when ours goes."""
    wire = node.wire("n0")
    daemon = daemon_at(node, "clsact")
    with foreign_tc(OK, "ender") as there, foreign_tc(OK, "first") as late:
        there.filter(node.inside, "n0", "ingress", priority=2)
        daemon.start()
        assert programs(node.inside, "n0", "ingress")[1:] == [there.id]
        wire.send([IN] * 2)
        counts(daemon, 2, 0)

        late.filter(node.inside, "n0", "ingress")
        warning = daemon.wait_for_event("others see packets first")["warning"]
        assert f"program {late.id} (named first) before cnfd's program at ingress" in warning

        daemon.stop()
        assert all_programs(node.inside, "n0") == {"ingress": [late.id, there.id]}
        assert qdiscs(node.inside, "n0") == ["clsact"]


def test_a_qdisc_of_ours_that_somebody_uses_stays(node: Node) -> None:
    """A clsact that cnfd has made stays where another filter has come into it; else it goes with ours."""
    node.wire("n0")
    node.wire("n1")
    daemon = daemon_at(node, "clsact", "n0", "n1").start()
    assert (qdiscs(node.inside, "n0"), qdiscs(node.inside, "n1")) == (["clsact"], ["clsact"])
    with foreign_tc() as other:
        other.filter(node.inside, "n0", "egress", priority=7)
        daemon.stop()
        assert all_programs(node.inside, "n0") == {"egress": [other.id]}
    assert (qdiscs(node.inside, "n0"), qdiscs(node.inside, "n1")) == (["clsact"], [])


def test_egress_that_cannot_be_had(node: Node) -> None:
    """Where an ingress qdisc leaves no room for egress, that is missing with a warning, and ingress is counted."""
    wire = node.wire("n0")
    subprocess.run(("tc", "-n", node.inside.name, "qdisc", "add", "dev", "n0", "ingress"), check=True)
    daemon = daemon_at(node, "clsact")
    daemon.configure([{"name": "n0", **BOTH, "mode": "native"}])
    daemon.start()
    warning = daemon.wait_for_event("direction missing")["warning"]
    assert warning.startswith("egress is not counted: interface n0: egress by TC: the kernel refused the program: the")
    shown = daemon.interfaces()["n0"]
    assert (shown["state"], shown["mode"], shown["warning"]) == ("attached", "native", warning)
    assert (attached(daemon)["egress"]["mode"], attached(daemon)["ingress"]["mode"]) == (None, "native")
    shown_directions = daemon.scrape().samples("cnf_interface_attached")
    assert {labels["direction"]: value for labels, value in shown_directions} == {"ingress": 1, "egress": 0}
    assert warning in daemon.ctl("status").stdout
    wire.send([IN] * 2)
    counts(daemon, 2, 0)
    daemon.stop()
    assert qdiscs(node.inside, "n0") == ["ingress"]


@each_hook
def test_somebody_elses_xdp_program(node: Node, hook: str) -> None:
    """With mode auto an interface that has one is counted at TC, and what that program may hide is said."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook)
    daemon.configure([{"name": "n0", **BOTH, "mode": "auto"}])
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")
        daemon.start()
        assert attached(daemon)["ingress"]["hook"] == hook
        warning = daemon.wait_for_event("others see packets first")["warning"]
        assert f"program {foreign.id} (named foreign) at XDP before cnfd's program" in warning
        wire.send([IN] * 2)
        counts(daemon, 2, 0)
        assert node.inside.programs() == {"n0": foreign.id}


def test_what_auto_takes(node: Node) -> None:
    """On a veth and a tun, mode auto is TC, and says why; egress is TC in any mode."""
    node.wire("n0")
    node.wire("n1")
    node.inside.ip("tuntap", "add", "n2", "mode", "tun")
    daemon = node.daemon()
    daemon.configure([{"name": "n1", **BOTH, "mode": "native"}, {"name": "n*", **BOTH, "mode": "auto"}])
    daemon.start()
    why = {name: attached(daemon, name)["ingress"]["why"] for name in ("n0", "n1", "n2")}
    modes = {name: {key: each["mode"] for key, each in attached(daemon, name).items()} for name in why}
    assert modes == {
        "n0": {"ingress": "tc", "egress": "tc"},
        "n1": {"ingress": "native", "egress": "tc"},
        "n2": {"ingress": "tc", "egress": "tc"},
    }
    assert why == {
        "n0": "native XDP would turn segmentation off at its other end",
        "n1": "as configured",
        "n2": "its packets have no Ethernet header, which XDP takes",
    }
    segmentation = subprocess.run(
        (*node.outside.enter, "ethtool", "-k", "far1"), capture_output=True, text=True, check=False
    )
    assert segmentation.returncode or "tcp-segmentation-offload: on" in segmentation.stdout


def test_a_reload_changes_mode_and_directions(node: Node, folder: Path) -> None:
    """Each packet is counted once in its direction, whatever mode a reload asks for; a direction goes and comes."""
    wire = node.wire("n0")
    daemon = node.daemon()
    ingress, egress = 0, 0
    for mode, directions in (
        ("tc", ["ingress"]),
        ("native", ["ingress", "egress"]),
        ("tc", ["ingress", "egress"]),
        ("generic", ["egress"]),
    ):
        daemon.configure([{"name": "n0", "mode": mode, "directions": directions}])
        if daemon.process is None:
            daemon.start()
        else:
            reloads = len(daemon.events("reloaded"))
            daemon.signal(SIGHUP)
            daemon.wait_for_event("reloaded", reloads + 1)
        wire.send([IN] * 2)
        send_out(node, "n0", 3)
        ingress += 2 * ("ingress" in directions)
        egress += 3 * ("egress" in directions)
        counts(daemon, ingress, egress)
        assert {*attached(daemon)} == {*directions}
        assert attached(daemon).get("ingress", {"mode": mode})["mode"] == mode
    assert node.inside.programs() == {}
    daemon.stop()
    nothing_is_left(node, folder)


@pytest.mark.parametrize("which", ["killed", "stopped"])
@each_hook
def test_without_pins(node: Node, hook: str, which: str) -> None:
    """Without bpffs a link goes with its daemon, whatever its end; a filter only with an orderly one."""
    wire = node.wire("n0")
    daemon = daemon_at(node, hook)
    daemon.command = ("unshare", "--mount", "sh", "-c", WITHOUT_BPFFS, "sh", *daemon.command)
    daemon.start()
    wire.send([IN] * 2)
    counts(daemon, 2, 0)
    refused = detach(node, "--socket", str(daemon.socket))
    assert (refused.returncode, f"pid {daemon.pid}" in refused.stderr) == (69, True)
    if which == "killed":
        kill(daemon)
    else:
        daemon.stop()
    left = which == "killed" and hook == "clsact"
    wait_for(lambda: bool(all_programs(node.inside, "n0")) == left, "the programs")
    if left:
        assert detach(node).stdout.startswith("detached from n0")
        assert (all_programs(node.inside, "n0"), qdiscs(node.inside, "n0")) == ({}, [])


@needs_tcx
def test_as_a_user_with_capabilities_only(node: Node, stage: Stage) -> None:
    """An interface that comes after the capabilities for loading were dropped is attached, too."""
    node.wire("n0")
    daemon = daemon_at(node, "tcx", "n*")
    daemon.command = stage.command("cnf.cnfd", *as_user(capabilities=("bpf", "net_admin", "perfmon")))
    daemon.config.parent.chmod(0o777)
    daemon.start()
    wire = node.wire("n1")
    daemon.attached("n0", "n1")
    wire.send([IN] * 2)
    counts(daemon, 2, 0)
    daemon.stop()
    assert [all_programs(node.inside, name) for name in ("n0", "n1")] == [{}, {}]


@each_hook
def test_an_interface_that_goes_as_it_is_attached(node: Node, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of the attempt, and the error names the interface."""
    if hook == "clsact":
        monkeypatch.setattr("cnf.kernel.tcx.is_there", lambda: False)
    gone = Link(4711, "n9", ARPHRD_ETHER, 1500)
    with node.inside.entered(), foreign_tc() as ours:
        fd = libbpf.open_program(ours.id)
        with TcAttacher(TC_EGRESS, Ours(fd, ours.id), {}, None) as attacher:
            with pytest.raises(AttachError, match=r"interface n9: egress by TC: the kernel refused .*\(ENODEV\)"):
                attacher.attach(gone)
            assert attacher.detach(gone) is False
        os.close(fd)


def test_many_links_are_let_go_of_in_time(node: Node) -> None:
    """A stop does not wait for the kernel to be done with each link."""
    for number in range(20):
        node.wire(f"n{number}")
    daemon = node.daemon()
    daemon.configure([{"name": "n*", **BOTH}])
    daemon.start()
    daemon.signal(SIGTERM)
    assert daemon.ended() == 0
    for number in range(20):
        wait_for(lambda number=number: not all_programs(node.inside, f"n{number}"), f"n{number} to be free")  # type: ignore[misc]


class Gone(TcAttacher):
    """One between whose look at an interface and whose change of it that goes."""

    wire: Wire | None = None

    def _find(self, ifindex: int) -> Any:  # noqa: ANN401 - what only the attacher knows
        found = super()._find(ifindex)
        if self.wire:
            self.wire.delete()
            self.wire = None
        return found


@each_hook
def test_an_interface_that_goes_during_a_swap(node: Node, hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up no change of limits on the others."""
    if hook == "clsact":
        monkeypatch.setattr("cnf.kernel.tcx.is_there", lambda: False)
    wire = node.wire("n0")
    with node.inside.entered(), foreign_tc() as ours, foreign_tc() as other:
        own, another = (Ours(libbpf.open_program(each.id), each.id) for each in (ours, other))
        link = Link(socket.if_nametoindex("n0"), "n0", ARPHRD_ETHER, 1500)
        with Gone(TC_INGRESS, own, {}, None, [another]) as attacher:
            attacher.attach(link)
            attacher.program, attacher.wire = another, wire
            attacher.swap(link)
            assert attacher.standing(link) is None
        os.close(own.fd)
        os.close(another.fd)
