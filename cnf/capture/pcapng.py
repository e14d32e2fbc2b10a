"""Blocks of pcapng (draft-ietf-opsawg-pcapng): what tcpdump and Wireshark read. Pure."""

from __future__ import annotations

import struct
from typing import Final

ETHERNET, RAW_IP = 1, 101
"""Link types: LINKTYPE_ETHERNET; LINKTYPE_RAW, frames that begin with the IP header."""
INBOUND, OUTBOUND = 1, 2
"""Of epb_flags."""
TC_VERDICT, XDP_VERDICT = 1, 2
"""Of epb_verdict: whose verdict it is."""

_SECTION, _INTERFACE, _NAMES, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 4, 5, 6
_MAGIC: Final = 0x1A2B3C4D
_END, _COMMENT = 0, 1
_NANOSECONDS: Final = 9


def section(application: str, system: str) -> bytes:
    """Return what a file begins with."""
    body = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
    return _block(_SECTION, body, (3, system.encode()), (4, application.encode()))


def interface(name: str, link_type: int, snaplen: int, expression: str = "") -> bytes:
    """Return the description of an interface; they are numbered from 0, in their order."""
    options = [(2, name.encode(errors="backslashreplace")), (9, bytes([_NANOSECONDS]))]
    if expression:
        options.append((11, b"\0" + expression.encode(errors="backslashreplace")))
    return _block(_INTERFACE, struct.pack("<HHI", link_type, 0, snaplen), *options)


def packet(  # noqa: PLR0913, PLR0917 - the fields of a block
    number: int, time: int, data: bytes, length: int, flags: int, verdict: tuple[int, int], comment: str = ""
) -> bytes:
    """Return a frame of ``length`` bytes at interface ``number``, of which ``data`` is captured, at a time in ns."""
    head = struct.pack("<IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), length)
    options = [(2, struct.pack("<I", flags)), (7, struct.pack("<Bq", *verdict))]
    if comment:
        options.append((_COMMENT, comment.encode()))
    return _block(_PACKET, head + _padded(data), *options)


def statistics(number: int, time: int, received: int, dropped: int | None, comment: str = "") -> bytes:
    """Return how many packets of interface ``number`` are in the file, and if that is known, how many are not."""
    options = [(4, struct.pack("<Q", received))]
    if dropped is not None:
        options.append((5, struct.pack("<Q", dropped)))
    if comment:
        options.append((_COMMENT, comment.encode()))
    return _block(_STATISTICS, struct.pack("<III", number, time >> 32, time & 0xFFFFFFFF), *options)


def remark(comment: str) -> bytes:
    """Return a comment on no interface: a block of resolved names that has none."""
    no_more_names = bytes(4)
    return _block(_NAMES, no_more_names, (_COMMENT, comment.encode()))


def _block(kind: int, body: bytes, *options: tuple[int, bytes]) -> bytes:
    for code, value in (*options, (_END, b"")):
        body += struct.pack("<HH", code, len(value)) + _padded(value)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
