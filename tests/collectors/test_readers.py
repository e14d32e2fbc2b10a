"""Other readers understand the same: pmacct, Wireshark's dissector, and netflume."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from netflume import Decoder

from tests.collectors.conftest import COLLECTOR, NODE, Exporting, layer3, traffic
from tests.collectors.programs import PORT, Nfacctd, dissected, write_capture

FLOWS: Final = 40


def counted(exporting: Exporting) -> list[bytes]:
    """Have the daemon count and export some traffic, in a row of two packets each flow; return the frames."""
    frames = [each for each in traffic(FLOWS) for _ in range(2)]
    exporting.configure()
    exporting.daemon.start()
    exporting.wire.send(frames)
    exporting.daemon.settle(len(frames))
    exporting.daemon.stop()
    return frames


def test_nfacctd_prints_flags_interfaces_and_times(exporting: Exporting, tmp_path: Path) -> None:
    """Packets and bytes are those that were sent; TCP flags are read, in their one byte."""
    before = time.time()
    with Nfacctd(exporting.node.outside, tmp_path / "flows", COLLECTOR) as nfacctd:
        frames = counted(exporting)
        records = [each for each in nfacctd.records(len(frames)) if each["iface_in"]]
    tcp = [each for each in records if each["ip_proto"] == "tcp"]

    assert sum(each["packets"] for each in records) == len(frames)
    assert sum(each["bytes"] for each in records) == layer3(frames)
    assert {each["tcp_flags"] for each in tcp} == {"18", "2"}  # SYN and ACK, SYN
    starts = {time.mktime(time.strptime(each["timestamp_start"][:19], "%Y-%m-%d %H:%M:%S")) for each in records}
    assert before - 2 < min(starts) <= max(starts) < time.time() + 1


def exported(exporting: Exporting) -> tuple[list[bytes], list[bytes]]:
    """Have the daemon export some traffic to an open port; return its frames, and the messages."""
    messages = []
    with exporting.node.outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((COLLECTOR, PORT))
        opened.settimeout(1)
        frames = counted(exporting)
        with suppress(TimeoutError):
            while True:
                messages.append(opened.recv(2000))
    return frames, messages


def test_wireshark_finds_nothing_malformed(exporting: Exporting, tmp_path: Path) -> None:
    """Each message is dissected to its end, and every field is one that the registry has."""
    file = tmp_path / "messages.pcap"
    write_capture(file, exported(exporting)[1])
    text = dissected(file, "-V", "-Y", "cflow")

    assert dissected(file, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""
    assert "Unknown" not in text
    assert text.count("Packets: 2\n") >= FLOWS


def test_netflume_reads_every_record(exporting: Exporting) -> None:
    """Packets and bytes of what was received, and its flags; each message can be decoded."""
    decoder: Any = Decoder()  # type: ignore[no-untyped-call] # it comes without types
    records: list[dict[str, Any]] = []
    frames, messages = exported(exporting)
    for message in messages:
        records += decoder.flows(message, NODE)
    received = [each for each in records if not each["direction"]]

    assert sum(each["packets"] for each in received) == len(frames)
    assert sum(each["octets"] for each in received) == layer3(frames)
    assert {each["tcp_flags"] for each in received if each["proto"] == 6} == {0x12, 0x02}
    assert decoder.stats["flows"] == len(records)
