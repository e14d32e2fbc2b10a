"""A firewall of the node itself that refuses the collector: a warning with the remedy, until it lets records out."""

from __future__ import annotations

import socket
from itertools import count
from typing import Final

from tests.collectors.conftest import ADDRESS, COLLECTOR, Exporting, traffic
from tests.collectors.programs import FOLDER, PORT, output
from tests.net.wait import wait_for

NFT: Final = str(FOLDER / "usr/sbin/nft")
REFUSES: Final = "add table inet cnf { chain out { type filter hook output priority 0; udp dport 4739 drop; }; }"
COUNT: Final = 40


def test_a_firewall_of_the_node(exporting: Exporting) -> None:
    """Drains go on, every record is counted as lost while nftables drops them, and later ones are sent."""
    inside, outside = exporting.node.inside, exporting.node.outside
    output(*inside.enter, NFT, REFUSES)
    daemon = exporting.configure(idle_timeout="300ms", drain_interval="200ms").start()
    numbers = count()

    def exported(name: str) -> float:
        return daemon.scrape().total(f"cnf_export_{name}_total", exporter=ADDRESS)

    def send(flows: int) -> None:
        """Send a packet of each of so many new flows, and wait until the record of each was sent or lost."""
        wanted = exported("lost") + exported("records") + flows
        exporting.wire.send(traffic(flows, first=100 * next(numbers)))
        wait_for(lambda: exported("lost") + exported("records") >= wanted, "records")
        assert exported("lost") + exported("records") == wanted

    with outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((COLLECTOR, PORT))
        send(COUNT)
        assert (exported("lost"), exported("records")) == (COUNT, 0)
        (warned,) = daemon.events("records not sent")
        assert warned["reason"] == "not_permitted"
        assert "IPAddressAllow=192.0.2.9" in warned["remedy"]
        assert "firewall of this node" in warned["remedy"]
        assert daemon.scrape().by("reason", "cnf_export_errors_total", exporter=ADDRESS).keys() == {"not_permitted"}

        output(*inside.enter, NFT, "delete table inet cnf")
        while not daemon.events("records sent again"):
            send(1)
        lost, sent = exported("lost"), exported("records")
        send(COUNT)
        assert (exported("lost"), exported("records")) == (lost, sent + COUNT)
