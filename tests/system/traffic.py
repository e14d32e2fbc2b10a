"""Traffic through a machine's interface while something is done to its service, and what has become of every packet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, Final

from tests.net.arrivals import arrivals
from tests.net.flood import Sender, flood
from tests.net.namespaces import Namespace, Wire, run
from tests.net.rations import packet
from tests.net.wait import wait_for
from tests.system.service import Service

LIMITED: Final = "10.0.0.1"
OTHERS: Final = ("192.0.2.77", "2001:db8::1")
RATION: Final = 10
LIMITS: Final = """
[limits]
mode = "enforce"

[[limits.rules]]
name = "few"
prefixes = ["10.0.0.0/8"]
bits_per_second = 8
burst_bytes = 2000
"""
"""Lets RATION packets of LIMITED through; the next one would take over three minutes."""
RATE: Final = 200.0
"""Packets a second of each source."""


class _Inside(Namespace):
    """A network namespace of a machine, seen from here."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = str(path), path

    def links(self) -> dict[str, dict[str, Any]]:
        shown = run(*self.enter, "ip", "-json", "-stats", "link", "show")
        return {link["ifname"]: link for link in json.loads(shown)}


class _Line(Wire):
    """The pair that leads to the machine's interface nic0, which is there."""

    def __init__(self, service: Service) -> None:
        init = Path(f"/proc/{service.machine.init}")
        self.near, self.far = _Inside(init / "ns/net"), _Inside(init / "root/run/netns/far")
        self.name = self.far_name = "nic0"


@contextmanager
def nothing_lost(service: Service) -> Iterator[None]:
    """Send to the running service, whose limits are LIMITS, for the length of the block.

    Then not one packet may be uncounted, none over the limit may have come through, and no counter may have gone down.
    """
    line, stop = _Line(service), Event()
    senders = {source: Sender([packet(source)], RATE) for source in (LIMITED, *OTHERS)}
    with arrivals(line.near, "nic0") as through, ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, line, 600.0, *senders.values(), stop=stop)
        try:
            wait_for(lambda: counted(service).get(LIMITED, 0) > 2 * RATION, "the limit to be reached", 30)
            before = counted(service)
            yield
            after = counted(service)
        finally:
            stop.set()
        flooding.result()
        sent = {source: sender.packets for source, sender in senders.items()}
        arrived = through.by_source(RATION + sum(sent[source] for source in OTHERS))
    assert {source: arrived[source] for source in sent} == sent | {LIMITED: RATION}
    assert all(after[source] >= before[source] for source in sent)
    wait_for(lambda: counted(service) == sent, f"{sent} to be counted", 30)


def counted(service: Service) -> dict[str, int]:
    """Return the packets of each source as its flow has them, dropped ones included."""
    flows = service.cnfctl("flows", "--filter", " or ".join(f"src host {source}" for source in (LIMITED, *OTHERS)))
    return {flow["src_addr"]: flow["packets"] + flow["dropped_packets"] for flow in flows}
