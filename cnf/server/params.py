"""The parameters of requests on the control socket, and listings in the format that they ask for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl

from cnf.errors import UsageError
from cnf.readers import shortened
from cnf.server.formats import to_csv, to_json, to_jsonl
from cnf.server.messages import JSON, Answer, Request, encode

KINDS: Final = {"json": JSON, "jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
PCAPNG: Final = "application/x-pcapng"
LISTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "/v1/flows": ("top", "sort", "filter", "format", "pairs", "by", "owner", "from", "to"),
    "/v1/limits/sources": ("top", "sort", "all", "format", "from", "to"),
}
"""The parameters of each path whose answer may be a large one."""
MANY: Final = 10_000
"""Flows or sources; an answer with more is a large one."""
BLOCK: Final = 64 << 10
MOST_DIGITS: Final = 40
"""Of a number: more than any count has, and fewer than int() refuses."""

MOST: Final = 1 << 32
"""The largest ``top`` that means anything: more than any table holds."""


def parameters(request: Request, *known: str) -> dict[str, str]:
    """Return the parameters of the request. Raises UsageError for one that is not ``known``."""
    asked = dict(parse_qsl(request.query, keep_blank_values=True, errors="backslashreplace"))
    unknown = asked.keys() - set(known)
    if unknown:
        expected = ", ".join(sorted(known)) or "none"
        raise UsageError(f"unknown parameter {shortened(min(unknown))!r}: expected one of {expected}")
    return asked


def count(asked: Mapping[str, str]) -> int | None:
    """Return the parameter ``top``; None for all. Raises UsageError."""
    top = number(asked, "top")
    return None if top is None else min(top, MOST)


def asks_for_many(request: Request) -> bool:
    """Tell whether more than MANY flows or sources are asked for, or any of the past."""
    if request.path not in LISTINGS:
        return False
    try:
        asked = parameters(request, *LISTINGS[request.path])
        top, past = count(asked), times(asked)
    except UsageError:
        return False  # the answer is one line
    return top is None or top > MANY or past is not None


def number(asked: Mapping[str, str], name: str) -> int | None:
    """Return the parameter ``name``, a whole number; None if it is not there, or empty. Raises UsageError."""
    text = asked.get(name, "")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise UsageError(f"{name} is {shortened(text)!r}: expected a whole number")
    return int(text) if text else None


def times(asked: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the parameters ``from`` and ``to`` in ns since the epoch; None if neither is there. Raises UsageError."""
    given = [asked.get(name) for name in ("from", "to")]
    if given == [None, None]:
        return None
    begin, end = (_time(name, text or "") for name, text in zip(("from", "to"), given, strict=True))
    if begin >= end:
        raise UsageError("from is not before to")
    return begin, end


def _time(name: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        expected = "a time with its zone, such as 2026-03-01T03:12:00Z"
        raise UsageError(f"{name} is {shortened(text)!r}: expected {expected}") from None


def flag(asked: Mapping[str, str], name: str) -> bool:
    """Return the parameter ``name``, 1 or 0; False if it is not there. Raises UsageError."""
    text = asked.get(name, "0")
    if text not in ("0", "1"):
        raise UsageError(f"{name} is {shortened(text)!r}: expected 1 or 0")
    return text == "1"


def output(asked: Mapping[str, str]) -> str:
    """Return the parameter ``format``: json, jsonl or csv. Raises UsageError."""
    form = asked.get("format", "json")
    if form not in KINDS:
        raise UsageError(f"format is {shortened(form)!r}: expected json, jsonl or csv")
    return form


class Listing:
    """Answers with many objects, made block by block; no block is made during a drain."""

    def __init__(self, draining: threading.Lock) -> None:
        """Wait for ``draining``, which is held during a drain, before each block."""
        self._draining = draining

    def answer(
        self, form: str, objects: Iterator[dict[str, Any]], fields: Sequence[str], name: str, rest: Mapping[str, Any]
    ) -> Answer:
        """Answer in the format ``form``; in JSON, one object with the list under ``name``, and the ``rest``."""
        match form:
            case "csv":
                texts = to_csv(objects, fields)
            case "jsonl":
                texts = to_jsonl(objects)
            case _:
                texts = to_json(name, objects, rest)
        blocks = self._blocks(texts)
        first, second = next(blocks), next(blocks, None)
        body = first if second is None else chain((first, second), blocks)
        return Answer(HTTPStatus.OK, body, KINDS[form])

    def _blocks(self, texts: Iterator[str]) -> Iterator[bytes]:
        """Join texts to blocks, so that a client does not wake up for each."""
        block: list[str] = []
        size = 0
        for text in texts:
            block.append(text)
            size += len(text)
            if size >= BLOCK:
                yield encode("".join(block))
                block, size = [], 0
                with self._draining:
                    pass
        yield encode("".join(block))
