"""What an interface hands to the stack: what the program has let pass."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final

from tests.net.namespaces import Namespace
from tests.net.wait import wait_for

BUFFER: Final = 256 << 20
"""Bytes of frames, as the kernel counts them, that wait for a test to read them: some 200,000 small ones."""

IPV6_HEADER: Final = 40
SOURCES: Final = {0x0800: slice(12, 16), 0x86DD: slice(8, 24)}
"""Where a header has the source address, by ethertype (RFC 791, RFC 8200)."""

ETH_P_ALL: Final = 3  # linux/if_ether.h
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
SOL_PACKET: Final = 263  # linux/socket.h
PACKET_STATISTICS: Final = 6  # linux/if_packet.h


class Arrivals:
    """Counts the packets that have come through, by source address."""

    def __init__(self, raw: socket.socket) -> None:
        """Read from a packet socket."""
        self._raw = raw
        self._sources: Counter[str] = Counter()

    def by_source(self, least: int = 0) -> dict[str, int]:
        """Return the packets so far of each address, at once when there are ``least``."""
        wait_for(lambda: self._read() >= least, f"{least} packets to come through")
        _, lost = struct.unpack("II", self._raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert not lost, f"{lost} packets have found no room to wait in"
        return dict(self._sources)

    def _read(self) -> int:
        while True:
            try:
                packet, (_, ethertype, direction, *_) = self._raw.recvfrom(IPV6_HEADER)
            except BlockingIOError:
                return self._sources.total()
            if direction != socket.PACKET_OUTGOING and ethertype in SOURCES:
                self._sources[str(ip_address(packet[SOURCES[ethertype]]))] += 1


@contextmanager
def arrivals(namespace: Namespace, interface: str) -> Iterator[Arrivals]:
    """Listen behind the program for the length of the block, to IP alone."""
    with namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        raw.bind((interface, ETH_P_ALL))
        raw.settimeout(0)
        yield Arrivals(raw)
