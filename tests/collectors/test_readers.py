"""Other readers understand the same: pmacct, Wireshark's dissector, and netflume."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from netflume import Decoder

from tests.bpf.packets import UDP, IPv4, frame
from tests.collectors.conftest import COLLECTOR, NODE, Exporting, layer3, traffic
from tests.collectors.programs import PORT, Nfacctd, Nfcapd, dissected, write_capture
from tests.net.namespaces import Namespace

FLOWS: Final = 40
CONNECTIONS: Final = 20
QUESTION, ANSWER = (frame(IPv4(), UDP(), bytes(size)) for size in (100, 200))
OTHERS: Final = ("192.0.2.10", "192.0.2.11")
"""Addresses of two more collectors."""


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


def test_connections_in_one_record(exporting: Exporting, tmp_path: Path) -> None:
    """With ``biflow = true`` all can read what comes; who knows RFC 5103 has both directions, and all packets."""
    outside, inside = exporting.node.outside, exporting.node.inside
    for address in OTHERS:
        outside.ip("address", "add", f"{address}/24", "dev", exporting.wire.far_name)
    frames = [each for each in traffic(FLOWS) for _ in range(2)]
    messages = []
    with ExitStack() as stack:
        nfcapd = stack.enter_context(Nfcapd(outside, tmp_path / "nfcapd", COLLECTOR))
        nfacctd = stack.enter_context(Nfacctd(outside, tmp_path / "nfacctd", OTHERS[0]))
        opened = stack.enter_context(outside.socket(socket.AF_INET, socket.SOCK_DGRAM))
        opened.bind((OTHERS[1], PORT))
        opened.settimeout(1)
        exporting.configure(*({"collector": f"{each}:{PORT}", "biflow": True} for each in (COLLECTOR, *OTHERS)))
        exporting.daemon.start()
        exporting.wire.send(frames)
        _ask(outside, inside)
        exporting.daemon.settle(len(frames) + 3 * CONNECTIONS)
        exporting.daemon.stop()
        with suppress(TimeoutError):
            while True:
                messages.append(opened.recv(2000))
        of_pmacct = nfacctd.records(len(frames) + 3 * CONNECTIONS)
    write_capture(file := tmp_path / "messages.pcap", messages)
    decoder: Any = Decoder()  # type: ignore[no-untyped-call] # it comes without types
    of_netflume = [each for message in messages for each in decoder.flows(message, NODE)]
    both = [each for each in of_netflume if "ie239" in each]

    assert nfcapd.totals() == (
        FLOWS + CONNECTIONS,
        len(frames) + 5 * CONNECTIONS,
        layer3(frames) + CONNECTIONS * (3 * layer3([QUESTION]) + 2 * layer3([ANSWER])),
        0,
    )
    assert [(each["dst_port"], each["packets"], each["e29305.2"]) for each in both] == [(53, 3, 2)] * CONNECTIONS
    assert sum(each["packets"] for each in of_netflume) == len(frames) + 3 * CONNECTIONS
    assert sum(each["packets"] for each in of_pmacct) == len(frames) + 3 * CONNECTIONS  # it leaves the others out
    text = dissected(file, "-V", "-Y", "cflow")
    assert text.count("Packets: 2 (Reverse Type 2 PKTS)\n") == CONNECTIONS
    assert dissected(file, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""
    assert "Unknown" not in text.replace("PEN: (Unknown) (29305)", "")  # it has no name for RFC 5103


def _ask(outside: Namespace, inside: Namespace) -> None:
    """Have an answer of two packets for each question of three, over as many connections."""
    with inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, ExitStack() as stack:
        server.bind((NODE, 53))
        server.settimeout(5)
        for _ in range(CONNECTIONS):
            client = stack.enter_context(outside.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(5)
            client.connect((NODE, 53))
            for _ in range(3):
                client.send(QUESTION[42:])
                _, address = server.recvfrom(2000)
            for _ in range(2):
                server.sendto(ANSWER[42:], address)
                client.recv(2000)
