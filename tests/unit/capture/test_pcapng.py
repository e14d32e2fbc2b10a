"""Blocks of pcapng are those of the specification, byte for byte."""

from __future__ import annotations

from cnf.capture import pcapng
from cnf.cli.capture.blocks import Summary


def test_a_packet() -> None:
    """Data and options are padded to 32 bits, and the length stands at both ends."""
    block = pcapng.packet(1, 5 << 32 | 7, b"abcde", 60, pcapng.INBOUND, (pcapng.XDP_VERDICT, 1), "why")

    head = "06000000 4c000000 01000000 05000000 07000000 05000000 3c000000"
    options = "02000400 01000000 07000900 02010000 00000000 00000000 01000300 77687900 00000000"
    assert block == bytes.fromhex(f"{head} 6162636465000000 {options} 4c000000")


def test_a_remark() -> None:
    """It is a block of names whose list ends at once, and a summary has what it says."""
    block = pcapng.remark("lost")
    assert block == bytes.fromhex("04000000 1c000000 00000000 01000400 6c6f7374 00000000 1c000000")
    summary = Summary()
    summary.add(pcapng.section("a", "b") + block)
    assert (summary.packets, summary.lost) == (0, "lost")


def test_a_summary_counts_what_comes_in_pieces() -> None:
    """Wherever the stream is cut."""
    packet = pcapng.packet(0, 1, b"abc", 3, pcapng.OUTBOUND, (pcapng.TC_VERDICT, -1))
    whole = pcapng.section("a", "b") + pcapng.interface("eth0", 1, 128) + 3 * packet
    whole += pcapng.statistics(0, 1, 3, 2, "2 lost") + pcapng.statistics(1, 1, 0, None)
    for size in (1, 7, len(whole)):
        summary = Summary()
        for start in range(0, len(whole), size):
            summary.add(whole[start : start + size])
        assert (summary.packets, summary.lost) == (3, "2 lost")
