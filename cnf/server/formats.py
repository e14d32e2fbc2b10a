"""Listings in the formats that clients ask for: JSON, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def to_json(name: str, objects: Iterator[dict[str, Any]], rest: Mapping[str, Any]) -> Iterator[str]:
    """Yield one JSON object in pieces: a list of objects under ``name``, then the ``rest``."""
    yield f"{{{json.dumps(name)}: ["
    between = ""
    for each in objects:
        yield between + json.dumps(each)
        between = ", "
    yield "], " + json.dumps(rest)[1:] + "\n"


def to_csv(objects: Iterator[dict[str, Any]], fields: Sequence[str]) -> Iterator[str]:
    """Yield a header line, then one line for each object; null is an empty field."""
    line = io.StringIO()
    writer = csv.DictWriter(line, fields, lineterminator="\n")
    writer.writeheader()
    for each in objects:
        writer.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in each.items()})
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def to_jsonl(objects: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield each JSON object as a line."""
    for each in objects:
        yield json.dumps(each) + "\n"
