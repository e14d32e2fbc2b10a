"""What requests on the control socket have in common: parameters, and answers in lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from cnf.errors import UsageError
from cnf.listing import to_csv, to_jsonl

STREAMED: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
BLOCK: Final = 64 << 10

Handler = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


def parameters(environ: WSGIEnvironment, *known: str) -> dict[str, str]:
    """Return the parameters of the request. Raises UsageError for one that is not ``known``."""
    asked = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True, errors="backslashreplace"))
    unknown = asked.keys() - set(known)
    if unknown:
        raise UsageError(f"unknown parameter {min(unknown)!r}: expected one of {', '.join(sorted(known)) or 'none'}")
    return asked


def count(asked: Mapping[str, str]) -> int | None:
    """Return the parameter ``top``; None for all. Raises UsageError."""
    return number(asked, "top")


def number(asked: Mapping[str, str], name: str) -> int | None:
    """Return the parameter ``name``, a whole number; None if it is not there, or empty. Raises UsageError."""
    text = asked.get(name, "")
    if text and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} is {text!r}: expected a whole number")
    return int(text) if text else None


def output(asked: Mapping[str, str]) -> str:
    """Return the parameter ``format``: json, jsonl or csv. Raises UsageError."""
    form = asked.get("format", "json")
    if form not in {"json", *STREAMED}:
        raise UsageError(f"format is {form!r}: expected json, jsonl or csv")
    return form


def stream(
    start_response: StartResponse, form: str, objects: Iterator[dict[str, Any]], fields: Sequence[str]
) -> Iterable[bytes]:
    """Answer with JSON lines or CSV, block by block."""
    start_response("200 OK", [("Content-Type", STREAMED[form])])
    return _blocks(to_csv(objects, fields) if form == "csv" else to_jsonl(objects))


def _blocks(lines: Iterator[str]) -> Iterator[bytes]:
    """Join lines to blocks, so that a client is not woken for each."""
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= BLOCK:
            yield "".join(block).encode(errors="backslashreplace")
            block, size = [], 0
    yield "".join(block).encode(errors="backslashreplace")
