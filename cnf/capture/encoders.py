"""What a client gets: pcapng, or a JSON object a line."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cnf import VERSION
from cnf.abi import FAMILIES, Family
from cnf.arrays import Rows
from cnf.capture import pcapng
from cnf.capture.asked import Asked
from cnf.capture.frames import Frames
from cnf.capture.reasons import Reasons, traffic_of

_XDP_ACTIONS: Final = {False: 2, True: 1}
"""XDP_PASS and XDP_DROP, by whether a frame is dropped."""
_TC_ACTIONS: Final = {False: -1, True: 2}
"""TC_ACT_UNSPEC and TC_ACT_SHOT."""
_DROPPED: Final = ("limited", "denied", "unreadable")
_WORDS: Final = {
    "limited": "dropped, over the limit",
    "denied": "dropped, denied",
    "unreadable": "dropped, unreadable",
    "would_drop": "passed, would be dropped",
}
"""How a comment has a verdict."""


class Encoder(Protocol):
    """Encode what a capture has."""

    frames: int
    """How many have been encoded."""

    def begin(self) -> bytes:
        """Return what comes first."""

    def some(self, frames: Frames, rows: Rows, names: Mapping[int, str]) -> bytes:
        """Return some frames; ``names`` are the interfaces', by ifindex."""

    def end(self, lost: Mapping[str, int]) -> bytes:
        """Return what comes last; ``lost`` are the packets that are not there, by CAPTURE_RESULTS."""


class PcapngEncoder:
    """Encode as a section of pcapng: an interface is described before its first frame."""

    def __init__(
        self, asked: Asked, reasons: Reasons, has_ethernet: Callable[[int], bool], names: Mapping[int, str]
    ) -> None:
        """Describe the interfaces in ``names``, by ifindex; ``has_ethernet`` tells what their frames begin with."""
        self._asked, self._reasons, self._has_ethernet = asked, reasons, has_ethernet
        self._names = names
        self._numbers: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self.frames = 0

    def begin(self) -> bytes:
        """Return the section's header, and the interfaces."""
        header = pcapng.section(f"cnfd {VERSION}", f"Linux {platform.release()}")
        return header + b"".join(self._described(index, name) for index, name in self._names.items())

    def some(self, frames: Frames, rows: Rows, names: Mapping[int, str]) -> bytes:
        """Return a block a frame."""
        why, heads, blocks = _reasons(frames, rows, self._reasons), frames.heads, []
        for row in rows.tolist():
            index, verdict = int(heads["ifindex"][row]), frames.verdict(row)
            if index not in self._numbers:
                blocks.append(self._described(index, names.get(index, f"interface {index}")))
            number = self._numbers[index]
            data, length = frames.bytes(row)
            data = data[: self._asked.snaplen]  # a tag may have come into it
            dropped = verdict in _DROPPED
            action = (
                (pcapng.XDP_VERDICT, _XDP_ACTIONS[dropped])
                if frames.by_xdp(row)
                else (pcapng.TC_VERDICT, _TC_ACTIONS[dropped])
            )
            flags = pcapng.INBOUND if frames.direction(row) == "ingress" else pcapng.OUTBOUND
            comment = comment_of(verdict, why.get(row, ""), int(heads["packets"][row]))
            blocks.append(pcapng.packet(number, frames.times[row], data, length, flags, action, comment))
            self._written[number] = self._written.get(number, 0) + 1
        self.frames += len(rows)
        return b"".join(blocks)

    def end(self, lost: Mapping[str, int]) -> bytes:
        """Return the statistics of each interface; what was lost is known of all together, and stands at the first.

        Without an interface it stands alone.
        """
        comment = f"{lost['over_budget']} over the budget (--budget), {lost['ring_full']} with the ring full"
        if not self._numbers:
            return pcapng.remark(comment)
        return b"".join(
            pcapng.statistics(
                number, time.time_ns(), self._written.get(number, 0), None if number else sum(lost.values()), comment
            )
            for number in self._numbers.values()
        )

    def _described(self, index: int, name: str) -> bytes:
        self._numbers[index] = len(self._numbers)
        link_type = pcapng.ETHERNET if self._has_ethernet(index) else pcapng.RAW_IP
        return pcapng.interface(name, link_type, self._asked.snaplen, self._asked.expression)


class LineEncoder:
    """Encode as JSON lines; a line with the key ``stream`` is about the capture."""

    def __init__(self, reasons: Reasons) -> None:
        """Have ``reasons`` say why."""
        self._reasons = reasons
        self.frames = 0

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def some(self, frames: Frames, rows: Rows, names: Mapping[int, str]) -> bytes:
        """Return a line a frame."""
        why, heads, fields = _reasons(frames, rows, self._reasons), frames.heads, frames.fields(names)
        self.frames += len(rows)
        return b"".join(
            _line(
                {"time": _time(frames.times[row])}
                | fields[row]
                | {
                    "length": frames.bytes(row)[1],
                    "packets": int(heads["packets"][row]),
                    "verdict": frames.verdict(row),
                    "reason": why.get(row) or None,
                }
            )
            for row in rows.tolist()
        )

    def end(self, lost: Mapping[str, int]) -> bytes:
        """Return how many frames there were, and what is missing."""
        return _line({"stream": {"frames": self.frames, "lost": dict(lost)}})


def comment_of(verdict: str, reason: str, packets: int) -> str:
    """Return what is to be said of a frame, in words."""
    words = _WORDS.get(verdict, "")
    parts = [f"{words}: {reason}" if reason else words] if words else []
    if packets > 1:
        parts.append(f"{packets} packets on the wire")
    return "; ".join(parts)


def _reasons(frames: Frames, rows: Rows, reasons: Reasons) -> dict[int, str]:
    """Return why frames were not let through, by row."""
    wanted, found, generations = set(rows.tolist()), dict[int, str](), frames.heads["generation"].tolist()
    for family in FAMILIES:
        family_rows, keys = frames.keys(family)
        for row, key in zip(family_rows.tolist(), keys, strict=True):
            verdict = frames.verdict(row)
            if row not in wanted or verdict == "passed":
                continue
            traffic = _traffic(family, key, int(frames.heads["tcp_flags"][row]))
            found[row] = reasons.of(verdict, generations[row], key["src_addr"].tobytes(), int(key["ifindex"]), traffic)
    return found


def _traffic(family: Family, key: Any, tcp_flags: int) -> str:  # noqa: ANN401 - an element of an array
    return traffic_of(family, int(key["protocol"]), int(key["flags"]), tcp_flags)


def _line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
