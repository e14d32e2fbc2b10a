"""Listings are what a spreadsheet and a reader of JSON lines expect."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

from cnf.abi import ICMP
from cnf.flows.fields import FIELDS
from cnf.flows.query import select
from cnf.flows.snapshot import Snapshot
from cnf.server.formats import to_csv, to_jsonl
from tests.unit.samples import Flow, snapshot

V4 = Flow()
V6 = Flow(src="2001:db8::1", dst="2001:db8::2")


def shown(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the flows of ``snapshot``, as a client that reads JSON sees them."""
    flows: list[dict[str, Any]] = json.loads(json.dumps(list(select(snapshot, "", "bytes", None).flows())))
    return flows


def test_json_lines_have_one_flow_each() -> None:
    """Every line is a whole JSON object, that of the JSON answer."""
    drained = snapshot(V4, replace(V6, bytes=5))
    lines = list(to_jsonl(select(drained, "", "bytes", None).flows()))

    assert [json.loads(line) for line in lines] == shown(drained)
    assert all(line.endswith("\n") and "\n" not in line[:-1] for line in lines)


def test_csv_has_a_header_and_empty_fields_for_null() -> None:
    """A spreadsheet reads back what the JSON answer says."""
    names = {1: 'q"x,\\y'}
    drained = snapshot(replace(V4, protocol=ICMP, src_port=8, dst_port=0), names=names)
    text = "".join(to_csv(select(drained, "", "bytes", None).flows(), list(FIELDS)))
    (row,) = csv.DictReader(text.splitlines())
    (flow,) = shown(drained)

    assert list(row) == list(FIELDS)
    assert row == {
        name: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in flow.items()
    }
    assert text.endswith("\n")
    assert "\r" not in text


def test_csv_of_no_flows_is_its_header() -> None:
    """A script finds the columns even when nothing matches."""
    assert "".join(to_csv(iter([]), list(FIELDS))) == ",".join(FIELDS) + "\n"
