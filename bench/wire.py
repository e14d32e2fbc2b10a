"""A veth pair in a network namespace of its own, so that nothing of the machine's is touched."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import calls
from cnf.kernel import libbpf
from cnf.kernel.attacher import Ours
from cnf.kernel.links import ARPHRD_ETHER, Link
from cnf.kernel.xdp import XdpAttacher

SENDER: Final = "bench0"
SENDER_IFINDEX: Final = 1001  # as in bare.c
_PARKED: Final = itertools.count(2001)
RECEIVER: Final = Link(index=1002, name="bench1", hardware=ARPHRD_ETHER, mtu=1500)


def make() -> None:
    """Move to a new namespace and make the pair there; both end with this process and its children."""
    calls.leave_network()
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")  # nothing sends by itself
    near, far = (SENDER, "index", str(SENDER_IFINDEX)), (RECEIVER.name, "index", str(RECEIVER.index))
    _ip("link", "add", *near, "type", "veth", "peer", *far)
    for name in ("lo", SENDER, RECEIVER.name):
        _ip("link", "set", name, "up")


def send(program: int, frame: bytes, count: int) -> None:
    """Send ``count`` frames, changed by the program of bare.c that is called send; on one CPU, as its turns are."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        calls.send_live(program, frame, count)
    finally:
        os.sched_setaffinity(0, cpus)


@contextmanager
def parked(program: int) -> Iterator[None]:
    """Have the program on an interface that nothing comes in at.

    The kernel calls programs that are on an interface directly. One that is on none, it adds for each BPF_PROG_TEST_RUN
    and removes after it, and waits for all CPUs both times: 20 ms, in which runs on two CPUs miss each other.
    """
    index = next(_PARKED)
    link = Link(index=index, name=f"parked{index}", hardware=ARPHRD_ETHER, mtu=1500)
    _ip("link", "add", link.name, "index", str(index), "type", "veth")
    try:
        with XdpAttacher(Ours(program, libbpf.program_id(program)), {}) as attacher:
            attacher.attach(link, "generic")
        yield
    finally:
        _ip("link", "del", link.name)


def received() -> int:
    """Return how many packets have come in at the receiver."""
    (link,) = json.loads(_ip("-json", "-stats", "link", "show", RECEIVER.name))
    return int(link["stats64"]["rx"]["packets"])


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
