"""The largest values are the largest, whatever the values are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.flows.largest import SAMPLE, largest

MANY = 5 * SAMPLE + 7
RNG = np.random.default_rng(1)

DISTRIBUTIONS: dict[str, Callable[[int], npt.NDArray[np.uint64]]] = {
    "equal": lambda size: np.full(size, 64, np.uint64),
    "two kinds": lambda size: np.where(RNG.random(size) < 0.1, 128, 64).astype(np.uint64),
    "few large ones, the rest of two kinds": lambda size: np.where(
        RNG.random(size) < 30 / size, RNG.integers(1 << 40, size=size), RNG.integers(64, 66, size=size)
    ).astype(np.uint64),
    "pareto": lambda size: (RNG.pareto(1.1, size) * 1000).astype(np.uint64),
    "uniform": lambda size: RNG.integers(1 << 63, size=size).astype(np.uint64),
    "ascending": lambda size: np.arange(size, dtype=np.uint64),
    "descending": lambda size: np.arange(size, dtype=np.uint64)[::-1],
    "large where no sample is": lambda size: (np.arange(size) % 6 != 0).astype(np.uint64) * 1000,
    "large only where a sample is": lambda size: (
        (np.arange(size) % 6 == 0).astype(np.uint64) * np.arange(size, dtype=np.uint64)
    ),
    "rates": lambda size: RNG.exponential(1e6, size).astype(np.float32),
}


def check(values: npt.NDArray[np.uint64], count: int | None) -> None:
    """Compare with a plain sort."""
    rows = largest(values, count)

    assert values[rows].tolist() == np.sort(values)[::-1][:count].tolist()
    assert len(np.unique(rows)) == len(rows)


@given(values=st.lists(st.integers(0, 5), max_size=12), count=st.one_of(st.none(), st.integers(0, 15)))
def test_the_largest_come_first(values: list[int], count: int | None) -> None:
    """The count largest values, largest first; ties in any order, but each row once."""
    check(np.array(values, np.uint64), count)


@pytest.mark.parametrize("count", [0, 1, 2, 50, 1000, MANY // 2, MANY - 1, MANY, MANY + 1, None])
@pytest.mark.parametrize("values", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_no_distribution_deceives_the_sample(
    values: Callable[[int], npt.NDArray[np.uint64]], count: int | None
) -> None:
    """What is found of many values, by a sample of them, is what a sort finds."""
    check(values(MANY), count)


@given(
    seed=st.integers(0, 1 << 32),
    kinds=st.integers(1, 1 << 20),
    size=st.integers(SAMPLE, 3 * SAMPLE),
    count=st.integers(0, 200),
)
def test_any_number_of_kinds_and_any_size(seed: int, kinds: int, size: int, count: int) -> None:
    """Whether many values are equal or few, and wherever they stand."""
    check(np.random.default_rng(seed).integers(kinds, size=size).astype(np.uint64), count)


def test_a_column_of_records_is_as_good() -> None:
    """Values need not stand side by side."""
    records = RNG.integers(1000, size=(MANY, 8)).astype(np.uint64)
    check(records[:, 1], 50)
