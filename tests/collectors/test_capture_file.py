"""Wireshark reads what ``cnfctl capture -w`` has written: interface, direction, verdict and reason of each packet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.collectors.conftest import Exporting
from tests.collectors.programs import dissected
from tests.net.rations import QUICK, enforce, packet, ration
from tests.net.test_capture import begin

FIELDS: Final = ("frame.interface_name", "frame.packet_flags_direction", "ip.src", "frame.comment")
DENIED: Final = enforce(ration("default", 1000), deny=["198.51.100.0/24"])


def test_tshark_reads_a_capture(exporting: Exporting, tmp_path: Path) -> None:
    """As many packets as were counted, those that are denied with the entry that denies them."""
    node = exporting.node
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=DENIED, flows=QUICK).start()
    file = tmp_path / "capture.pcapng"
    client = begin(daemon, "-w", str(file), "-c", "5")
    wire.send([packet("198.51.100.1")] * 3 + [packet("192.0.2.1")] * 2)
    _output, said = client.communicate()

    shown = dissected(file, "-T", "fields", "-E", "separator=;", *(part for field in FIELDS for part in ("-e", field)))
    rows = [line.split(";", 3) for line in shown.splitlines()]
    assert b"5 packets captured" in said
    assert daemon.wait_for_event("capture ended")["frames"] == 5
    assert {(name, int(direction, 0)) for name, direction, _source, _comment in rows} == {("n0", 1)}
    denied = ["198.51.100.1", "dropped, denied: limits.deny 198.51.100.0/24"]
    assert [row[2:] for row in rows] == [denied] * 3 + [["192.0.2.1", ""]] * 2
