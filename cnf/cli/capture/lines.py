"""Captured packets as lines of text: time, where, who to whom, how long, and the verdict."""

from __future__ import annotations

from cnf.cli.api.stream_replies import CapturedFrame
from cnf.cli.flows.table import endpoint
from cnf.cli.show.table import GAP, Style
from cnf.units import printable, size

_VERDICTS = {
    "passed": "passed",
    "limited": "dropped, over the limit",
    "denied": "dropped, denied",
    "unreadable": "dropped, unreadable",
    "would_drop": "passed, would be dropped",
}
_DROPPED = ("limited", "denied", "unreadable")
_WAYS = {"ingress": "in", "egress": "out"}


def frame_line(frame: CapturedFrame, style: Style) -> str:
    """Return a packet as a line."""
    verdict = frame["verdict"]
    words = _VERDICTS.get(verdict, verdict) + (f": {frame['reason']}" if frame["reason"] else "")
    where = f"{frame['interface']} {_WAYS[frame['direction']]}"
    shown = style.warn(printable(words)) if verdict in _DROPPED else printable(words)
    return GAP.join((style.dim(f"{frame['time'][11:26]} UTC"), printable(where), printable(_what(frame)), shown))


def _what(frame: CapturedFrame) -> str:
    length = size(frame["length"])
    if frame["packets"] > 1:
        length += f" in {frame['packets']:,} packets"
    if frame["src_addr"] is None or frame["dst_addr"] is None:
        return f"{frame['kind'].replace('_', ' ')}, {length}"
    source = endpoint(frame, frame["src_addr"], frame["src_port"])
    destination = endpoint(frame, frame["dst_addr"], frame["dst_port"])
    flags = f" {frame['tcp_flags']}" if frame["tcp_flags"] else ""
    vlan = f" vlan {frame['vlan']}" if frame["vlan"] is not None else ""
    fragment = " fragment" if frame["fragment"] else ""
    return f"{frame['protocol']} {source} > {destination}{flags}{vlan}{fragment}, {length}"
