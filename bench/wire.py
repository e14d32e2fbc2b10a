"""A veth pair in a network namespace of its own, so that nothing of the machine's is touched."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from bench import calls
from cnf.kernel.links import ARPHRD_ETHER, Link

SENDER: Final = "bench0"
SENDER_IFINDEX: Final = 1001  # as in bench.c
RECEIVER: Final = Link(index=1002, name="bench1", hardware=ARPHRD_ETHER, mtu=1500)


def make() -> None:
    """Move to a new namespace and make the pair there; both end with this process and its children."""
    calls.leave_network()
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")  # nothing sends by itself
    near, far = (SENDER, "index", str(SENDER_IFINDEX)), (RECEIVER.name, "index", str(RECEIVER.index))
    _ip("link", "add", *near, "type", "veth", "peer", *far)
    for name in ("lo", SENDER, RECEIVER.name):
        _ip("link", "set", name, "up")


def received() -> int:
    """Return how many packets have come in at the receiver."""
    (link,) = json.loads(_ip("-json", "-stats", "link", "show", RECEIVER.name))
    return int(link["stats64"]["rx"]["packets"])


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
