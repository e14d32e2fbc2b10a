"""A walk over a flow table is whole, and what the kernel refuses is tried again or told, never lost."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from cnf.abi import FLOW4_KEY, FLOW_VALUE
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel import maps
from cnf.kernel.maps import FlowMap

NO_FD = -1
BATCH = 4
MOST_CALLS = 100


class Table:
    """A hash table whose buckets are read as ``htab_map_lookup_batch`` of kernel/bpf/hashtab.c reads them.

    ``refusals`` are the errors, by the number of the call, that a call ends with instead of doing its work.
    """

    def __init__(self, buckets: Sequence[int], refusals: dict[int, int] | None = None) -> None:
        """Fill buckets of these sizes with entries numbered from 0."""
        ends = np.cumsum(buckets).tolist()
        self.buckets = [range(end - size, end) for end, size in zip(ends, buckets, strict=True)]
        self.refusals = refusals or {}
        self.calls = 0

    def lookup_batch(
        self, _fd: int, in_batch: object, out_batch: object, keys: int, values: int, count: object, _opts: object
    ) -> int:
        """Do what bpf_map_lookup_batch() of libbpf does."""
        self.calls += 1
        assert self.calls < MOST_CALLS, "the walk does not end"
        refusal = self.refusals.get(self.calls)
        if refusal:
            return -refusal
        capacity = _u32(count)
        bucket = _u32(in_batch).value if in_batch is not None else 0
        found: list[int] = []
        status = 0
        while bucket < len(self.buckets):
            if len(self.buckets[bucket]) > capacity.value - len(found):
                status = 0 if found else -errno.ENOSPC
                break
            found += self.buckets[bucket]
            bucket += 1
        else:
            status = -errno.ENOENT
        _u32(out_batch).value = bucket
        capacity.value = len(found)
        flows = np.zeros(len(found), FLOW4_KEY)
        flows["src_addr"] = found
        counts = np.zeros(len(found), FLOW_VALUE)
        counts["packets"] = found
        ctypes.memmove(keys, flows.ctypes.data, flows.nbytes)
        ctypes.memmove(values, counts.ctypes.data, counts.nbytes)
        return status


def _u32(reference: Any) -> ctypes.c_uint32:  # noqa: ANN401 - what byref() returns has no name
    """Return the number that ``byref()`` was called with."""
    return ctypes.cast(reference, ctypes.POINTER(ctypes.c_uint32)).contents


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "BATCH", BATCH)


def walk(lookup_batch: Callable[..., int]) -> list[int]:
    """Return what a walk meets, in its order."""
    met: list[int] = []
    for keys, values in FlowMap("flows4", NO_FD, FLOW4_KEY, FLOW_VALUE, lookup_batch).batches():
        assert len(keys) == len(values) > 0
        assert keys["src_addr"].tolist() == values["packets"].tolist()
        met += keys["src_addr"].tolist()
    return met


@pytest.mark.parametrize(
    "buckets",
    [[], [0], [1], [4], [2, 2], [3, 3, 3], [0, 0, 4, 0], [5], [1, 40], [17, 0, 1], [1] * 50],
    ids=str,
)
def test_a_walk_meets_every_entry_once(buckets: list[int]) -> None:
    """Entries come whole and in order, in buckets of any size; one larger than the batch makes the batch grow."""
    assert walk(Table(buckets).lookup_batch) == list(range(sum(buckets)))


def test_a_batch_that_has_grown_stays_so() -> None:
    """The second walk does not meet the same refusal again."""
    table = Table([40])
    flows = FlowMap("flows4", NO_FD, FLOW4_KEY, FLOW_VALUE, table.lookup_batch)
    first = [len(keys) for keys, _values in flows.batches()]
    calls = table.calls

    assert [len(keys) for keys, _values in flows.batches()] == first == [40]
    assert table.calls == calls + 1


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_call_is_made_again(call: int) -> None:
    """EINTR at any place loses no entry and repeats none."""
    table = Table([4, 4, 4], {call: errno.EINTR})

    assert walk(table.lookup_batch) == list(range(12))
    assert table.calls == 4


def test_a_call_that_is_always_interrupted_is_given_up() -> None:
    """A drain ends, even if every call is interrupted."""
    table = Table([1], dict.fromkeys(range(MOST_CALLS), errno.EINTR))

    with pytest.raises(MapError) as refusal:
        walk(table.lookup_batch)

    assert refusal.value.errno == errno.EINTR


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EPERM, "Operation not permitted"), (errno.ENOMEM, "Cannot allocate memory"), (errno.EBADF, "Bad file")],
)
@pytest.mark.parametrize("call", [1, 2])
def test_a_refusal_names_the_map_and_the_kernels_words(number: int, words: str, call: int) -> None:
    """Any other error ends the walk at once, with its number."""
    table = Table([4, 4], {call: number})

    with pytest.raises(MapError, match=f"reading map flows4: {words}") as refusal:
        walk(table.lookup_batch)

    assert refusal.value.errno == number
    assert table.calls == call


def test_a_walk_after_a_refusal_starts_from_the_beginning() -> None:
    """The next drain reads all of the table."""
    table = Table([4, 4], {2: errno.ENOMEM})
    with pytest.raises(MapError):
        walk(table.lookup_batch)

    assert walk(table.lookup_batch) == list(range(8))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EBADF])
def test_a_refused_deletion_keeps_what_was_taken_before(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Values that were deleted are returned beside the error, and an entry that is gone is no error."""
    flows = FlowMap("flows4", NO_FD, FLOW4_KEY, FLOW_VALUE, Table([]).lookup_batch)
    answers = iter([0, -errno.ENOENT, 0, -number])

    def take(_fd: int, key: int, value: int) -> int:
        status = next(answers)
        if status == 0:
            entry = np.zeros(1, FLOW_VALUE)
            entry["packets"] = np.frombuffer(ctypes.string_at(key, FLOW4_KEY.itemsize), FLOW4_KEY)["src_addr"]
            ctypes.memmove(value, entry.ctypes.data, entry.nbytes)
        return status

    monkeypatch.setattr(flows, "_take", take)
    taken = flows.take(_keys(5, 6, 7, 8, 9))

    assert taken.values["packets"].tolist() == [5, 7]
    assert taken.error is not None
    assert taken.error.errno == number
    assert "deleting from map flows4" in str(taken.error)


def _keys(*numbers: int) -> Records:
    keys = np.zeros(len(numbers), FLOW4_KEY)
    keys["src_addr"] = numbers
    return keys
