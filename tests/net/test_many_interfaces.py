"""As many interfaces as max_interfaces says, whatever their indexes, and what is said of one more."""

from __future__ import annotations

import socket
import subprocess
from signal import SIGTERM
from typing import Final

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.namespaces import Namespace
from tests.net.wait import SLOWNESS, wait_for

PACKET: Final = frame(IPv4(), UDP(), bytes(100))
MANY: Final = 1000
WAVES, WAVE = 5, 100
STOP: Final = 5.0 * SLOWNESS
"""Seconds that a stop takes at most; here it takes 0.6, and on a busy machine twice that."""
INDEXES: Final = {f"n{number}": 1000 + (number % 250) * 16_384 + 37 * (number // 250) for number in range(MANY)}
"""By name: four runs of 250 that have their lowest bits in common, however many of them are looked at."""


def batch(namespace: Namespace, *commands: str) -> None:
    """Run many commands of ip(8) as one."""
    lines = "\n".join(commands).encode()
    subprocess.run(("ip", "-netns", namespace.name, "-batch", "-"), input=lines, check=True, capture_output=True)


def make(node: Node, *names: str) -> None:
    """Connect interfaces of the node with ones of the same names outside, each with its index of INDEXES."""
    pairs = (
        f"link add {name} index {INDEXES[name]} type veth peer name {name} netns {node.outside.name}" for name in names
    )
    batch(node.inside, *pairs, *(f"link set {name} up" for name in names))
    batch(node.outside, *(f"link set {name} up" for name in names))
    wait_for(lambda: all(link["operstate"] == "UP" for name, link in node.outside.links().items() if name in names),
             "the interfaces to be up")  # fmt: skip


def send(node: Node, counts: dict[str, int]) -> None:
    """Send so many packets to each interface."""
    with node.outside.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        for name, count in counts.items():
            for _ in range(count):
                raw.sendto(PACKET, (name, 0))


def test_a_thousand_interfaces(node: Node) -> None:
    """A thousand interfaces with scattered indexes each count exactly what they receive, and are let go of in time."""
    make(node, *INDEXES)
    daemon = node.daemon("n*", metrics={"max_series": 100_000}, flows={"drain_interval": "1s"}).start()
    assert node.inside.programs().keys() == INDEXES.keys()
    counts = {name: 1 + number % 3 for number, name in enumerate(INDEXES)}
    send(node, counts)

    daemon.settle(sum(counts.values()))
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == counts
    flows = daemon.flows("--top", f"{2 * MANY}")
    assert {flow["interface"]: flow["packets"] for flow in flows} == counts
    daemon.signal(SIGTERM)
    assert daemon.ended(STOP) == 0
    assert node.inside.programs() == {}


def test_five_hundred_interfaces_that_come_and_go(node: Node) -> None:
    """Of waves of a hundred interfaces, each gone as the next comes, every packet counts, under the right name."""
    daemon = node.daemon("n*", metrics={"max_series": 100_000}).start()
    names = list(INDEXES)[: WAVES * WAVE]
    counts = {name: 1 + number % 7 for number, name in enumerate(names)}
    before: list[str] = []
    for first in range(0, len(names), WAVE):
        wave = names[first : first + WAVE]
        batch(node.inside, *(f"link del {name}" for name in before))
        make(node, *wave)
        daemon.attached(*wave)
        send(node, {name: counts[name] for name in wave})
        daemon.settle(sum(counts[name] for name in names[: first + WAVE]))
        before = wave
    batch(node.inside, *(f"link del {name}" for name in before))
    daemon.attached()

    assert daemon.scrape().by("interface", "cnf_received_packets_total") == counts
    ledger = daemon.status()["ledger"]["packets"]
    assert (ledger["received"], ledger["difference"]) == (sum(counts.values()), 0)


def test_one_interface_more_than_there_may_be(node: Node) -> None:
    """It is refused with the option to raise, alone; when another one goes it is taken, and counts from 0."""
    daemon = node.daemon("n*")
    daemon.config.write_text("max_interfaces = 3\n" + daemon.config.read_text(encoding="utf-8"), encoding="utf-8")
    make(node, "n0", "n1", "n2")
    daemon.start().attached("n0", "n1", "n2")
    send(node, {"n0": 5, "n1": 6, "n2": 7})
    daemon.settle(18)
    make(node, "n3")
    event = daemon.wait_for_event("interface refused")
    assert event["error"] == (
        "interface n3: 3 interfaces are counted already (raise max_interfaces, it is 3, and restart cnfd)"
    )

    node.inside.ip("link", "del", "n1")
    daemon.attached("n0", "n2", "n3")
    send(node, {"n3": 2})
    daemon.settle(20)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 5, "n1": 6, "n2": 7, "n3": 2}
