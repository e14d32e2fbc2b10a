"""The numpy dtypes and the labels are those of the C header that the kernel's side is compiled with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import cnf
from cnf import abi

HEADER: Final = Path(cnf.__file__).parent / "bpf" / "abi.h"
WIDTHS: Final = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}


@dataclass(frozen=True)
class Member:
    """A field of a C struct: bytes an element, elements, and where it starts."""

    width: int
    elements: int
    offset: int


class Header:
    """As much of C as abi.h uses: defines, enums, and structs of fixed-width integers and arrays of them."""

    def __init__(self, text: str) -> None:
        """Read the whole file."""
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        self.enums = {name: _enumerators(body) for name, body in re.findall(r"enum (\w+) \{(.*?)\};", text, re.DOTALL)}
        self.constants = {name: int(value, 0) for name, value in re.findall(r"#define (\w+) (\w+)", text)}
        for enum in self.enums.values():
            self.constants |= enum
        self.structs: dict[str, dict[str, Member]] = {}
        for name, body in re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL):
            self.structs[name] = self._layout(body)

    def labels(self, enum: str, prefix: str) -> tuple[str, ...]:
        """Return the enumerators in order and lower case, without ``prefix``, and without the last, their number."""
        *names, last = self.enums[enum]
        assert self.constants[last] == len(names)
        assert all(name.startswith(prefix) for name in names)
        return tuple(name.removeprefix(prefix).lower() for name in names)

    def _layout(self, body: str) -> dict[str, Member]:
        members: dict[str, Member] = {}
        end = 0
        for declaration in filter(None, map(str.strip, body.split(";"))):
            match = re.fullmatch(r"(?:struct )?(\w+) (\w+)(?:\[(\w+)\])?", declaration)
            assert match, declaration
            kind, name, elements = match.groups()
            if kind in self.structs:
                inner = self.structs[kind]
                end += -end % max(member.width for member in inner.values())
                members |= _moved(name, inner, end)
                end += size(inner)
                continue
            width = WIDTHS[kind]
            end += -end % width  # natural alignment
            members[name] = Member(width, self._number(elements or "1"), end)
            end += width * members[name].elements
        return members

    def _number(self, text: str) -> int:
        return int(text) if text.isdecimal() else self.constants[text]


def _moved(name: str, members: dict[str, Member], by: int) -> dict[str, Member]:
    """Return the members of a struct as those of one that holds it as ``name``."""
    return {
        f"{name}.{field}": Member(member.width, member.elements, by + member.offset)
        for field, member in members.items()
    }


def _enumerators(body: str) -> dict[str, int]:
    values: dict[str, int] = {}
    following = 0
    for enumerator in filter(None, map(str.strip, body.split(","))):
        name, _, value = enumerator.partition(" = ")
        values[name] = int(value, 0) if value else following
        following = values[name] + 1
    return values


def size(members: dict[str, Member]) -> int:
    """Return sizeof: the end of the last member, rounded up to the widest."""
    end = max(member.offset + member.width * member.elements for member in members.values())
    return end + -end % max(member.width for member in members.values())


HEADER_READ: Final = Header(HEADER.read_text(encoding="utf-8"))
DTYPES: Final = {
    "flow4_key": abi.FLOW4_KEY,
    "flow6_key": abi.FLOW6_KEY,
    "flow_value": abi.FLOW_VALUE,
    "cache_head": abi.CACHE_HEAD,
    "cache_secrets": abi.CACHE_SECRETS,
    "flow4_slot": abi.FLOW4_SLOT,
    "flow6_slot": abi.FLOW6_SLOT,
    "flow_drops": abi.FLOW_DROPS,
    "flow_recorded": abi.FLOW_RECORDED,
    "flow_settings": abi.FLOW_SETTINGS,
    "counter": abi.COUNTER,
    "interface": abi.INTERFACE,
    "limit4_prefix": abi.LIMIT4_PREFIX,
    "limit6_prefix": abi.LIMIT6_PREFIX,
    "limit_match": abi.LIMIT_MATCH,
    "limit_denied": abi.LIMIT_DENIED,
    "limit_policy": abi.LIMIT_POLICY,
    "limit_settings": abi.LIMIT_SETTINGS,
    "limit_rule": abi.LIMIT_RULE,
    "limit_bucket": abi.LIMIT_BUCKET,
    "limit4_key": abi.LIMIT4_KEY,
    "limit6_key": abi.LIMIT6_KEY,
    "limit_source": abi.LIMIT_SOURCE,
    "limit4_slot": abi.LIMIT4_SLOT,
    "limit6_slot": abi.LIMIT6_SLOT,
    "limit_over": abi.LIMIT_OVER,
    "event": abi.EVENT,
    "capture_settings": abi.CAPTURE_SETTINGS,
    "capture_record": abi.CAPTURE_RECORD,
    "capture_draft": np.dtype(
        [
            ("record", abi.CAPTURE_RECORD),
            ("bytes", "u1", (abi.CAPTURE_BYTES,)),
            ("size", "<u8"),
            ("would", "<u8"),
        ]
    ),
    "handover_page": abi.HANDOVER_PAGE,
}


def test_every_struct_has_a_dtype() -> None:
    """No struct of the header is left out of this comparison."""
    assert HEADER_READ.structs.keys() == DTYPES.keys()


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_has_the_fields_of_its_struct(name: str) -> None:
    """Names, order, widths, numbers of elements and offsets are the same."""
    dtype = DTYPES[name]

    members = _members(dtype)
    assert members == HEADER_READ.structs[name]
    assert list(members) == list(HEADER_READ.structs[name])


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_has_the_size_of_its_struct(name: str) -> None:
    """An array of records has the stride that the kernel writes with."""
    assert DTYPES[name].itemsize == size(HEADER_READ.structs[name])


@pytest.mark.parametrize("name", DTYPES)
def test_all_padding_is_explicit(name: str) -> None:
    """A compiler has no hole to leave uninitialised: what hashes and compares keys sees every byte."""
    members = HEADER_READ.structs[name].values()

    assert sum(member.width * member.elements for member in members) == size(HEADER_READ.structs[name])


@pytest.mark.parametrize("key", [abi.FLOW4_KEY, abi.FLOW6_KEY])
def test_ports_are_read_in_network_byte_order(key: np.dtype[Any]) -> None:
    """A port's two bytes on the wire give its number."""
    record = np.zeros(1, key)
    offset = HEADER_READ.structs["flow4_key" if key == abi.FLOW4_KEY else "flow6_key"]["dst_port"].offset
    record.view(np.uint8)[offset : offset + 2] = (0x01, 0xBB)

    assert record["dst_port"][0] == 443


@pytest.mark.parametrize(
    ("enum", "prefix", "labels"),
    [
        ("cnf_outcome", "CNF_", (*abi.PROTOCOL_LABELS[:-1], *abi.UNPARSED_REASONS)),
        (
            "cnf_table_counter",
            "CNF_",
            (
                *(f"insert_{cause}" for cause in abi.INSERT_ERRORS),
                *("insert_done", "expired", "expired_flows", "evicted", "evicted_flows"),
            ),
        ),
        ("cnf_table", "CNF_TABLE_", (*abi.FAMILIES, "sources4", "sources6")),
        ("cnf_direction", "CNF_DIRECTION_", abi.DIRECTIONS),
        ("cnf_drop", "CNF_DROP_", abi.DROP_REASONS),
        ("cnf_traffic", "CNF_TRAFFIC_", abi.TRAFFIC),
        ("cnf_verdict", "CNF_", abi.VERDICTS),
        ("cnf_event", "CNF_EVENT_", abi.EVENT_KINDS),
    ],
)
def test_labels_stand_in_the_order_of_their_enum(enum: str, prefix: str, labels: tuple[str, ...]) -> None:
    """A counter is shown under the name of what the program counted in it."""
    assert HEADER_READ.labels(enum, prefix) == labels


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNF_VLAN_PRESENT", abi.VLAN_PRESENT),
        ("CNF_FLOW_FRAGMENT", abi.FLOW_FRAGMENT),
        ("CNF_FLOW_EGRESS", abi.FLOW_EGRESS),
        ("CNF_FLOW_OPENED", abi.FLOW_OPENED),
        ("CNF_NON_IP", abi.NON_IP),
        ("CNF_TRUNCATED", abi.MALFORMED),
        ("CNF_OUTCOMES", abi.OUTCOMES),
        ("CNF_TABLES", abi.TABLE_COUNT),
        ("CNF_TABLE_COUNTERS", abi.TABLE_COUNTERS),
        ("CNF_LIMIT_GROUPS", abi.LIMIT_GROUPS),
        ("CNF_RULE_ENDS", abi.RULE_ENDS),
        ("CNF_NO_END", abi.NO_END),
        ("CNF_MAX_SETS", abi.MAX_SETS),
        ("CNF_MAX_SET_PREFIXES", abi.MAX_SET_PREFIXES),
        ("CNF_SET_MULTIPLIER", abi.SET_MULTIPLIER),
        ("CNF_ENFORCE", abi.ENFORCE),
    ],
)
def test_numbers_are_those_of_the_header(name: str, value: int) -> None:
    """Flags, slots and probes mean the same on both sides."""
    assert HEADER_READ.constants[name] == value


@pytest.mark.parametrize(
    ("family", "protocol", "label"),
    [
        ("ipv4", 6, "tcp"),
        ("ipv6", 6, "tcp"),
        ("ipv4", 17, "udp"),
        ("ipv4", 132, "sctp"),
        ("ipv4", 47, "gre"),
        ("ipv6", 50, "esp"),
        ("ipv4", 1, "icmp"),
        ("ipv6", 1, "other"),
        ("ipv6", 58, "icmpv6"),
        ("ipv4", 58, "other"),
        ("ipv4", 51, "other"),
        ("ipv6", 253, "other"),
    ],
)
def test_a_protocol_has_the_label_that_it_is_counted_under(family: abi.Family, protocol: int, label: str) -> None:
    """ICMP counts as such only in its own IP version; AH and all without a label are "other"."""
    assert abi.protocol_label(family, protocol) == label


def _members(dtype: np.dtype[Any]) -> dict[str, Member]:
    members: dict[str, Member] = {}
    for name in dtype.names or ():
        assert dtype.fields is not None
        element, offset = dtype.fields[name][:2]
        if element.names:
            members |= _moved(name, _members(element), offset)
        else:
            members[name] = Member(element.base.itemsize, int(np.prod(element.shape, dtype=int)), offset)
    return members
