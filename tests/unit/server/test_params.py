"""Parameters of requests are what they should be, or refused in one line; large answers come in pieces."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cnf.errors import UsageError
from cnf.server.messages import Request
from cnf.server.params import BLOCK, MANY, Listing, asks_for_many, count, number, output, parameters


@pytest.mark.parametrize(("text", "meant"), [("", None), ("0", 0), ("7", 7), ("9" * 40, 1 << 32), ("007", 7)])
def test_a_whole_number_is_read(text: str, meant: int | None) -> None:
    """A number of up to 40 digits is what it says, or as good as all; an empty one is none."""
    assert count({"top": text}) == meant


@pytest.mark.parametrize("text", ["-1", "+1", "1.5", "1_000", " 1", "\u0663", "9" * 41, "9" * 5000, "x" * 5000])
@pytest.mark.parametrize("name", ["top", "after"])
def test_what_is_no_number_is_refused(name: str, text: str) -> None:
    """Anything else is refused, however long, in a short line that names the parameter."""
    with pytest.raises(UsageError, match=f"^{name} is ") as refused:
        number({name: text}, name)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("path", "query", "many"),
    [
        ("/v1/flows", "", True),
        ("/v1/flows", "pairs=1&filter=tcp", True),
        ("/v1/flows", f"top={MANY}", False),
        ("/v1/flows", f"top={MANY + 1}", True),
        ("/v1/flows", "all=1", False),
        ("/v1/limits/sources", "all=1", True),
        ("/v1/limits/sources", "sort=dropped&format=csv", True),
        ("/v1/limits/sources", "all=1&top=3", False),
        ("/v1/status", "", False),
    ],
)
def test_a_large_answer_is_known_beforehand(path: str, query: str, *, many: bool) -> None:
    """By what each listing takes; what is refused is one line."""
    assert asks_for_many(Request("GET", path, query)) is many


def test_an_unknown_parameter_or_format_is_refused_shortly() -> None:
    """What nobody knows is quoted in part only."""
    long = "x" * 5000
    with pytest.raises(UsageError, match="unknown parameter 'xxx") as unknown:
        parameters(Request("GET", "/", f"{long}=1"), "top")
    with pytest.raises(UsageError, match="format is 'xxx") as form:
        output({"format": long})
    assert max(len(str(unknown.value)), len(str(form.value))) < 200


def objects(many: int) -> Iterator[dict[str, Any]]:
    """Yield objects, more than a block holds from some 1,200 on."""
    for index in range(many):
        yield {"number": index, "filler": "x" * 40}


@pytest.mark.parametrize("many", [0, 1, 5000])
def test_json_in_pieces_is_one_object(many: int) -> None:
    """However many objects there are, the pieces together are a JSON object with the list and the rest."""
    body = Listing(threading.Lock()).answer("json", objects(many), ("number", "filler"), "flows", {"total": many}).body
    text = body if isinstance(body, bytes) else b"".join(body)
    assert json.loads(text) == {"flows": list(objects(many)), "total": many}


def test_a_small_answer_is_whole() -> None:
    """An answer of up to a block has a known length."""
    listing = Listing(threading.Lock())
    assert isinstance(listing.answer("json", objects(100), ("number", "filler"), "flows", {}).body, bytes)
    assert not isinstance(listing.answer("json", objects(5000), ("number", "filler"), "flows", {}).body, bytes)


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_a_large_answer_is_made_as_it_is_taken(form: str) -> None:
    """Of a large answer no more than two blocks are made ahead, and the next ones as they are asked for."""
    made = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal made
        for each in objects(100_000):
            made += 1
            yield each

    body = Listing(threading.Lock()).answer(form, counted(), ("number", "filler"), "flows", {}).body
    assert not isinstance(body, bytes)
    for blocks, block in enumerate(body, start=1):
        assert len(block) < BLOCK + 200
        assert made < (blocks + 3) * BLOCK / 40
    assert made == 100_000


def test_no_block_is_made_during_a_drain() -> None:
    """While a drain is on, the next block of an answer waits; after it, the block comes."""
    draining, taken = threading.Lock(), threading.Event()
    body = Listing(draining).answer("jsonl", objects(100_000), (), "flows", {}).body
    assert not isinstance(body, bytes)
    next(body), next(body)

    def take() -> None:
        next(body)
        taken.set()

    with draining:
        taker = threading.Thread(target=take)
        taker.start()
        assert not taken.wait(0.2)
    assert taken.wait(20)
    taker.join()
