"""Blocks of pcapng, as far as a summary needs them. Pure."""

from __future__ import annotations

import struct
from typing import Final

_NAMES, _STATISTICS, _PACKET = 4, 5, 6
_HEAD: Final = struct.Struct("<II")
_OPTION: Final = struct.Struct("<HH")
_OPTIONS_AT: Final = {_NAMES: 12, _STATISTICS: 20}
"""Where options begin, in the blocks that say what is lost: that of names does where there is no interface."""
_COMMENT: Final = 1


class Summary:
    """What a stream of blocks has had so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.packets = 0
        self.lost = ""
        """What is said of packets that are not there, in words; "" before that has come."""
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        rest = self._rest + data
        while len(rest) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(rest)
            if not _HEAD.size < length <= len(rest):
                break
            self.packets += kind == _PACKET
            if kind in _OPTIONS_AT:
                self.lost = _comment(rest[_OPTIONS_AT[kind] : length - 4]) or self.lost
            rest = rest[length:]
        self._rest = rest


def _comment(options: bytes) -> str:
    at = 0
    while at + _OPTION.size <= len(options):
        code, length = _OPTION.unpack_from(options, at)
        at += _OPTION.size
        if code == _COMMENT:
            return options[at : at + length].decode(errors="backslashreplace")
        at += length + -length % 4
    return ""
