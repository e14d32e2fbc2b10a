"""Whatever system call the kernel refuses, the daemon says so in a line, counts it, and lives."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from pyroute2 import IPRoute

from cnf.errors import KernelError
from cnf.kernel import changing
from cnf.kernel.changing import Changer
from cnf.kernel.links import Links
from cnf.kernel.xdp import MODE_FLAGS
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon
from tests.net.refusals import BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_PROG_TEST_RUN, refuse, refusing
from tests.net.wait import PATIENCE

# asm/unistd_64.h, and asm-generic/unistd.h for the others
NUMBERS: Final[Mapping[str, int]] = (
    {"bpf": 321, "socket": 41, "recvfrom": 45}
    if platform.machine() == "x86_64"
    else {"bpf": 280, "socket": 198, "recvfrom": 207}
)
LIMITS: Final = {"mode": "shadow"}
LOOPBACK: Final = 1
NOTHING: Final = (("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", MODE_FLAGS["generic"]))


def nothing(netlink: IPRoute) -> None:
    """Make a change after which there is no program, as before."""
    netlink.link("set", index=LOOPBACK, xdp={"attrs": NOTHING})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(BPF_PROG_TEST_RUN, "reading the clock by a test run of cnf_clock failed", id="test run"),
        pytest.param(BPF_MAP_LOOKUP_ELEM, "reading map ", id="lookup"),
    ],
)
def test_a_drain_that_is_refused(node: Node, command: int, words: str) -> None:
    """A drain for which the kernel refuses a call is a line with its words and a count, and the next is tried."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=LIMITS)
    daemon.command = refusing("ready", NUMBERS["bpf"], command)
    daemon.start()
    wire.send([frame(IPv4(), UDP())] * 3)

    errors = [daemon.wait_for_event("drain failed", count) for count in (1, 2)]

    assert all(words in error["error"] and "Cannot allocate memory" in error["error"] for error in errors)
    assert daemon.scrape().total("cnf_drain_errors_total") >= 2
    _ends_in_order(node, daemon)


def test_sums_that_cannot_be_handed_over(node: Node) -> None:
    """When what the next daemon has to know cannot be written down, a line says so, and drains go on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0")
    daemon.command = refusing("ready", NUMBERS["bpf"], BPF_MAP_UPDATE_ELEM)
    daemon.start()
    assert "Cannot allocate memory" in daemon.wait_for_event("sums not kept for the next daemon")["error"]
    wire.send([frame(IPv4(), UDP())] * 3)
    daemon.settle(3)
    assert daemon.scrape().total("cnf_drain_errors_total") == 0
    _ends_in_order(node, daemon)


def test_an_interface_that_cannot_be_looked_at(node: Node) -> None:
    """Where no socket is to be had, a look at the interfaces is an error in the log; flows are counted as before."""
    wire = node.wire("n0")
    daemon = node.daemon("n*")
    daemon.command = refusing("ready", NUMBERS["socket"])
    daemon.start()
    node.wire("n1")
    assert "Cannot allocate memory" in daemon.wait_for_event("looking at the interfaces failed")["error"]
    wire.send([frame(IPv4(), UDP())] * 3)
    daemon.settle(3)
    daemon.stop()
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")


def test_notifications_that_cannot_be_read() -> None:
    """What the kernel says to a failed read of notifications is an error of the daemon's own."""
    with Links() as links, Path("/dev/null").open("rb") as null:
        os.dup2(null.fileno(), links.fileno())
        with pytest.raises(KernelError, match="changes failed: Socket operation on non-socket"):
            links.changed()


def test_a_socket_that_fails(node: Node) -> None:
    """A change whose answer cannot be read ends at once with the kernel's words, also the next one on a new socket."""
    answers: list[str] = []

    def change() -> None:
        with node.inside.entered(), Changer() as changer:
            changer.change(nothing)
            refuse(NUMBERS["recvfrom"])
            for _ in range(2):
                try:
                    changer.change(nothing)
                except OSError as error:
                    answers.append(str(error.strerror))

    before = _descriptors()
    thread = threading.Thread(target=change, daemon=True)  # whose end ends the refusal
    thread.start()
    thread.join(PATIENCE)
    assert answers == ["Cannot allocate memory"] * 2
    assert _descriptors() == before


def test_a_socket_that_does_not_answer(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that nobody answers ends with that, and the next one is made."""
    monkeypatch.setattr(changing, "TIMEOUT", 0.2)
    with node.inside.entered(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
        before = _descriptors()
        with Changer() as changer:
            changer.change(nothing)
            for descriptor in _descriptors() - before:
                if _family(descriptor) == socket.AF_NETLINK:
                    silent.bind("")
                    silent.connect(silent.getsockname())
                    os.dup2(silent.fileno(), descriptor)
            with pytest.raises(TimeoutError, match="timed out"):
                changer.change(nothing)
            changer.change(nothing)


def test_a_start_without_descriptors(node: Node) -> None:
    """A start that runs out of descriptors, is one line with status 69 or 71, and leaves nothing."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=LIMITS)
    for limit in range(6, 48, 6):
        daemon.command = ("prlimit", f"--nofile={limit}", *CNFD)
        daemon.launch()
        status = daemon.ended(PATIENCE)
        (line,) = (line for line in daemon.log_lines() if not line.startswith("{"))
        assert (status, line[:6]) in ((69, "cnfd: "), (71, "cnfd: "), (77, "cnfd: ")), line
        assert node.inside.programs() == {}


def _ends_in_order(node: Node, daemon: Daemon) -> None:
    daemon.stop()
    assert node.inside.programs() == {}
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")


def _descriptors() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def _family(descriptor: int) -> socket.AddressFamily | None:
    """Return the family of a socket; None for what is none."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return socket.AddressFamily(copy.family)
    except OSError:
        return None
