"""The lines of answers that go on as types."""

from __future__ import annotations

from typing import TypedDict

from cnf.cli.api.replies import Amount, Timestamp


class About(TypedDict):
    """What a line with the key ``stream`` says: which stream this is, and what of it is missing.

    ``at`` is the number to go on after, ``missed`` how many are not kept any more since the line before.
    """

    id: int
    started: Timestamp
    at: int
    last: int
    missed: int


class AboutEvents(About):
    """``lost`` counts, by kind, the events that have found the ring full since it was made."""

    lost: dict[str, int]


class AboutRecords(About):
    """``lost`` counts, by direction, what is in no record of flows that have finished since the daemon began."""

    lost: dict[str, Amount]


class CapturedFrame(TypedDict):
    """A captured packet; what is in no flow has no addresses, or a protocol only."""

    time: str
    interface: str | None
    direction: str
    protocol: str | None
    src_addr: str | None
    src_port: int | None
    dst_addr: str | None
    dst_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    vlan: int | None
    fragment: bool | None
    tcp_flags: str
    kind: str
    length: int
    packets: int
    verdict: str
    reason: str | None


class AboutCapture(TypedDict):
    """The end of a capture: ``lost`` counts the packets that are not there, by cause."""

    frames: int
    lost: dict[str, int]
