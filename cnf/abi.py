"""The C structs and enums of ``cnf/bpf/abi.h`` as numpy dtypes and names.

Pure: knows no kernel. ``tests/unit/test_abi.py`` compares every size and offset with the header.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from cnf.direction import DIRECTIONS as DIRECTIONS  # noqa: PLC0414 - enum cnf_direction is here for all who read maps
from cnf.direction import Direction as Direction  # noqa: PLC0414 - and so is its type

Family = Literal["ipv4", "ipv6"]
FAMILIES: Final[tuple[Family, ...]] = ("ipv4", "ipv6")

VLAN_PRESENT: Final = 0x1000
VLAN_ID: Final = VLAN_PRESENT - 1
FLOW_FRAGMENT: Final = 1
FLOW_EGRESS: Final = 2
"""In a flow's key: set for egress, not for ingress."""
FLOW_OPENED: Final = 0x200
"""Bit of a flow's ``tcp_flags``: it began with a SYN without ACK."""

PROTOCOL_LABELS: Final = ("tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "esp", "other", "non_ip", "malformed")
NON_IP: Final = PROTOCOL_LABELS.index("non_ip")
MALFORMED: Final = PROTOCOL_LABELS.index("malformed")
UNPARSED_REASONS: Final = ("truncated", "bad_header", "vlan_depth", "ext_header_depth")
INSERT_ERRORS: Final = ("no_memory", "busy", "raced", "other")
DROP_REASONS: Final = ("limited", "denied", "unreadable")
_PROTOCOLS: Final = ("tcp", "udp", "icmp", "icmpv6", "other")
FRAGMENTS: Final = {f"{protocol}_fragment": protocol for protocol in _PROTOCOLS}
"""Later fragments, which have no ports, and the protocol of each."""
TRAFFIC: Final = ("tcp", "tcp_syn", "udp", "icmp", "icmpv6", "other", *FRAGMENTS)
"""The kinds of packets that rules tell apart."""
VERDICTS: Final = ("passed", "limited", "would_limit")
EVENT_KINDS: Final = ("first_drop", "rule_generation", "flow_evicted", "flow_expired")
LIMIT_GROUPS: Final = 32
ENFORCE: Final = 0x800000
"""Bit beside a rule's number in a policy or decision: mode enforce."""
UNASSIGNED_INTERFACE: Final = "unassigned"
"""Name that packets of an interface without a slot are counted under."""

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132
PROTOCOL_NAMES: Final = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    47: "gre",
    50: "esp",
    51: "ah",
    ICMPV6: "icmpv6",
    SCTP: "sctp",
}
"""IP protocol numbers (IANA) that have a name here; any other is shown as its number."""
WITH_PORTS: Final = (TCP, UDP, SCTP)
"""Protocols whose ports the program reads."""

_LABELS: Final = {
    family: {number: name for number, name in PROTOCOL_NAMES.items() if name in PROTOCOL_LABELS and number != foreign}
    for family, foreign in (("ipv4", ICMPV6), ("ipv6", ICMP))
}


def protocol_label(family: Family, protocol: int) -> str:
    """Return the label that a protocol is counted under, as ``protocol_outcome()`` of parse.h."""
    return _LABELS[family].get(protocol, "other")


# Ports are in network byte order in the kernel's key, hence ">u2".
_FLOW_TAIL: Final[list[Any]] = [
    ("src_port", ">u2"),
    ("dst_port", ">u2"),
    ("ifindex", "<u4"),
    ("vlan", "<u2"),
    ("protocol", "u1"),
    ("flags", "u1"),
    ("zero", "<u4"),
]
FLOW4_KEY: Final = np.dtype([("src_addr", "<u4"), ("dst_addr", "<u4"), *_FLOW_TAIL])
FLOW6_KEY: Final = np.dtype([("src_addr", "<u8", (2,)), ("dst_addr", "<u8", (2,)), *_FLOW_TAIL])
FLOW_VALUE: Final = np.dtype(
    [
        ("packets", "<u8"),
        ("bytes", "<u8"),
        ("first_seen", "<u8"),
        ("last_seen", "<u8"),
        ("tcp_flags", "<u8"),
        ("dropped_packets", "<u8"),
        ("dropped_bytes", "<u8"),
    ]
)
WAYS: Final = 8
"""Slots of a set of a cache."""
CACHE_HEAD: Final = np.dtype(
    [("tags", "<u8"), ("sequence", "<u8"), ("stamps", "<u4", (WAYS,)), ("guests_until", "<u8"), ("zero", "<u8")]
)
SECRETS: Final = 14
CACHE_SECRETS: Final = np.dtype([("words", "<u8", (SECRETS,))])
_SLOT_COUNTS: Final[list[Any]] = [(name, "<u8") for name in (FLOW_VALUE.names or ())[:5]]
FLOW4_SLOT: Final = np.dtype([*_SLOT_COUNTS, ("key", FLOW4_KEY)])
FLOW6_SLOT: Final = np.dtype([*_SLOT_COUNTS, ("key", FLOW6_KEY), ("zero", "<u8")])
FLOW4_SET: Final = np.dtype([("head", CACHE_HEAD), ("slots", FLOW4_SLOT, (WAYS,))])
FLOW6_SET: Final = np.dtype([("head", CACHE_HEAD), ("slots", FLOW6_SLOT, (WAYS,))])
PART_FLAGS_SHIFT: Final = 24
"""In a flow's ``tcp_flags``, with records: below are the flags of all packets, here those since the latest record."""
LINK_BYTES_SHIFT: Final = 32
"""In the same: the bytes before the first packet's IP header."""
SLOT_DROPS: Final = 0x100
"""Bit of a slot's ``tcp_flags``: its element of FLOW_DROPS is not 0."""
FLOW_DROPS: Final = np.dtype([("packets", "<u8"), ("bytes", "<u8")])
FLOW_RECORDED: Final = np.dtype(
    [(name, "<u8") for name in ("first_seen", "packets", "bytes", "dropped_packets", "dropped_bytes")]
)
FLOW_UNTIL: Final = np.dtype("<u8")
FLOW_SETTINGS: Final = np.dtype([("idle", "<u8"), ("ended", "<u8"), ("drained", "<u8")])
INTERFACE: Final = np.dtype([("ifindex", "<u4"), ("slot", "<u4"), ("counted_as", "<u4"), ("no_ethernet", "<u4")])
COUNTER: Final = np.dtype([("packets", "<u8"), ("bytes", "<u8")])
OUTCOMES: Final = len(PROTOCOL_LABELS) - 1 + len(UNPARSED_REASONS)
"""Counters of packets of one direction: by protocol label, and those of ``malformed`` by reason."""
SLOT_COUNTERS: Final = OUTCOMES + len(DROP_REASONS)
"""Counters of what an interface receives: by outcome, then of dropped packets. What it sends has OUTCOMES elsewhere."""
TABLE_COUNT: Final = 2 * len(FAMILIES)
"""Of flows, then of sources."""
TABLE_COUNTERS: Final = len(INSERT_ERRORS) + 5
"""Counters of a table and direction: insert errors, inserted entries, and the counts and entries that expired and were
evicted."""

INTERFACE_COUNTERS: Final = np.dtype(
    [
        ("packets", "<u8", (len(PROTOCOL_LABELS),)),
        ("bytes", "<u8", (len(PROTOCOL_LABELS),)),
        ("unparsed", "<u8", (len(UNPARSED_REASONS),)),
        ("dropped_packets", "<u8", (len(DROP_REASONS),)),
        ("dropped_bytes", "<u8", (len(DROP_REASONS),)),
        ("sent_packets", "<u8", (len(PROTOCOL_LABELS),)),
        ("sent_bytes", "<u8", (len(PROTOCOL_LABELS),)),
        ("sent_unparsed", "<u8", (len(UNPARSED_REASONS),)),
    ]
)
"""The counts of an interface, as user space puts them together: what is not called sent is received."""

LIMIT4_PREFIX: Final = np.dtype([("length", "<u4"), ("bank", "<u4"), ("addr", "<u4")])
LIMIT6_PREFIX: Final = np.dtype([("length", "<u4"), ("bank", "<u4"), ("addr", "<u4", (4,))])
LIMIT_MATCH: Final = np.dtype(
    [
        ("policy", "<u4"),
        ("part", "<u4"),
        ("denied", "<u4"),
        ("changes", "<u4"),
        ("deny_until", "<u8"),
        ("allow_until", "<u8"),
    ]
)
FOR_EVER: Final = (1 << 64) - 1
"""Jiffies: without an end."""
LIMIT_DENIED: Final = np.dtype([("first_seen", "<u8"), ("last_seen", "<u8")])
LIMIT_POLICY: Final = np.dtype([("rule", "<u4"), ("shared", "<u4"), ("home", "<u4"), ("zero", "<u4")])
RULE_ENDS: Final = 8
"""Times at which rules end."""
LIMIT_SETTINGS: Final = np.dtype(
    [
        ("source6_mask", "<u8", (2,)),
        ("drop_unreadable", "<u8"),
        ("sets", "<u8"),
        ("sets_allow", "<u8"),
        ("sets_deny", "<u8"),
        ("sets_shadow", "<u8"),
        ("ends", "<u8", (RULE_ENDS,)),
    ]
)
NO_END: Final = (1 << 63) - 1
"""Jiffies: stands for an end of a rule that there is not."""
MAX_SETS: Final = 64
MAX_SET_PREFIXES: Final = 1 << 20
"""Of a family, of all sets together."""
SET_MULTIPLIER: Final = 0x03F79D71B4CB0A89
"""By which the bit of a set becomes the place of its counters."""
LIMIT_RULE: Final = np.dtype(
    [
        ("packet_cost", "<u8"),
        ("packet_rate", "<u8"),
        ("packet_burst", "<u8"),
        ("byte_cost", "<u8"),
        ("byte_rate", "<u8"),
        ("byte_burst", "<u8"),
        ("full_after", "<u8"),
        ("fine", "<u8"),
    ]
)
LIMIT_BUCKET: Final = np.dtype([("packet_time", "<u8"), ("byte_time", "<u8"), ("last_used", "<u8")])
LIMIT4_KEY: Final = np.dtype([("addr", "<u4"), ("group", "<u4")])
LIMIT6_KEY: Final = np.dtype([("addr", "<u8", (2,)), ("group", "<u4"), ("part", "<u4")])
LIMIT_SOURCE: Final = np.dtype(
    [
        ("decision", "<u8"),
        ("bucket", LIMIT_BUCKET),
        ("packets", "<u8"),
        ("bytes", "<u8"),
        ("over_packets", "<u8"),
        ("over_bytes", "<u8"),
        ("last_over", "<u8"),
        ("dropped_packets", "<u8"),
        ("dropped_bytes", "<u8"),
        ("last_drop", "<u8"),
        ("last_seen", "<u8"),
    ]
)
_SLOT_SOURCE: Final[list[Any]] = [(name, LIMIT_SOURCE[name]) for name in (LIMIT_SOURCE.names or ())[:5]]
LIMIT4_SLOT: Final = np.dtype([*_SLOT_SOURCE, ("key", LIMIT4_KEY)])
LIMIT6_SLOT: Final = np.dtype([*_SLOT_SOURCE, ("key", LIMIT6_KEY)])
LIMIT4_SET: Final = np.dtype([("head", CACHE_HEAD), ("slots", LIMIT4_SLOT, (WAYS,))])
LIMIT6_SET: Final = np.dtype([("head", CACHE_HEAD), ("slots", LIMIT6_SLOT, (WAYS,))])
DROPS: Final = ("dropped_packets", "dropped_bytes", "last_drop")
"""Fields that both LIMIT_SOURCE and LIMIT_OVER have."""
LIMIT_OVER: Final = np.dtype([("bytes", "<u8"), ("last", "<u8"), *((name, "<u8") for name in DROPS)])

EVENT: Final = np.dtype(
    [
        ("kind", "<u2"),
        ("family", "<u2"),
        ("slot", "<u4"),
        ("jiffies", "<u8"),
        ("key", "<u8", (6,)),
        ("value", FLOW_VALUE),
    ]
)

LIMIT_VERDICTS: Final = ("passed", "limited", "denied", "unreadable", "would_drop")
"""enum cnf_limit: what has become of a frame that is captured."""
CAPTURE_RESULTS: Final = ("captured", "over_budget", "ring_full")
"""Label ``result`` of cnf_capture_packets_total."""
CAPTURE_BYTES: Final = 2048
"""The most of a frame that is captured."""
CAPTURE_SETTINGS: Final = np.dtype([(name, "<u8") for name in ("session", "verdicts", "snaplen", "budget")])
CAPTURE_RECORD: Final = np.dtype(
    [
        ("time", "<u8"),
        ("session", "<u8"),
        ("generation", "<u8"),
        ("ifindex", "<u4"),
        ("length", "<u4"),
        ("packets", "<u4"),
        ("tag", "<u4"),
        ("outcome", "u1"),
        ("verdict", "u1"),
        ("hook", "u1"),
        ("family", "u1"),
        ("tcp_flags", "u1"),
        ("zero", "u1", (3,)),
        ("key", "<u8", (6,)),
    ]
)

HANDOVER_PAGE: Final = np.dtype([("bytes", "u1", (4096,))])
