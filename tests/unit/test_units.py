"""How numbers, times and names read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.units import (
    bit_rate,
    clock_time,
    count,
    cut_end,
    cut_middle,
    duration,
    moment,
    number_of,
    packets,
    printable,
    size,
    wrap,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.2, "0.2"),
        (999, "999"),
        (999.6, "1.0k"),
        (1_234, "1.2k"),
        (99_960, "100k"),
        (999_999, "1.0M"),
        (3_400_000, "3.4M"),
        (2**64, "18.4E"),
    ],
)
def test_count(value: float, text: str) -> None:
    """A count has at most three digits and a decimal prefix."""
    assert count(value) == text


def test_bytes_and_rates_are_decimal() -> None:
    """Bytes and bit rates are in powers of 1000, as interfaces are sold."""
    assert (size(999), size(12_300_000)) == ("999 B", "12.3 MB")
    assert (bit_rate(0.0), bit_rate(1_200_000.0)) == ("0 bit/s", "1.2 Mbit/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0 ms"),
        (0.0123, "12.3 ms"),
        (0.5, "0.5 s"),
        (5.0, "5 s"),
        (59.4, "59.4 s"),
        (59.96, "1m00s"),
        (192, "3m12s"),
        (3_599.7, "1h00m"),
        (7_500, "2h05m"),
        (273_600, "3d04h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """A time span shows its two largest units, and a clock that stepped back never makes it negative."""
    assert duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e21))
def test_numbers_keep_their_columns(value: float) -> None:
    """No number is longer than the table reserves for it."""
    assert len(count(value)) <= 5
    assert len(size(value)) <= 7
    assert len(bit_rate(value)) <= 11


@given(st.text(st.characters(codec=None)))
def test_printable(text: str) -> None:
    """Whatever a name holds, what is printed of it controls no terminal, and a harmless name stays as it is."""
    assert printable(text).isprintable()
    assert printable("größe0") == "größe0"
    assert printable("a\x1b[2J\u202eb\x9b") == r"a\x1b[2J\u202eb\x9b"


@given(st.text(), st.integers(1, 30))
def test_cut(text: str, width: int) -> None:
    """A cut text keeps its width and shows the cut; what fits is left alone."""
    for cut in (cut_end(text, width), cut_middle(text, width)):
        assert cut == text if len(text) <= width else len(cut) == width and "…" in cut
    assert cut_middle("[2001:db8:1234::1]:443", 15) == "[2001:d…:1]:443"


@pytest.mark.parametrize(("number", "text"), [(0, "0 flows"), (1, "1 flow"), (2, "2 flows"), (1_234, "1,234 flows")])
def test_number_of(number: int, text: str) -> None:
    """One thing is no plural."""
    assert number_of(number, "flow") == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 packets"), (1, "1 packet"), (0.5, "0.5 packets"), (4e3, "4.0k packets")]
)
def test_packets(number: float, text: str) -> None:
    """One packet is no plural, and half of one is."""
    assert packets(number) == text


def test_a_time_says_that_it_is_in_utc() -> None:
    """Whatever zone it is given in."""
    time = datetime(2026, 3, 1, 17, 29, 57, 123_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert moment(time) == "2026-03-01 11:59:57 UTC"
    assert moment(time, milliseconds=True) == "2026-03-01 11:59:57.123 UTC"
    assert clock_time(time) == "11:59:57 UTC"


AMOUNTS = ("10 k packets/s", "4 k packets", "90.1 kB", "3 s", "1.2 Mbit/s", "45 %", "1,234 flows", "1 packet")


@given(st.lists(st.sampled_from([*AMOUNTS, "of", "which are dropped,"]), min_size=1), st.integers(20, 60))
def test_no_line_ends_between_a_number_and_its_unit(words: list[str], width: int) -> None:
    """Wherever it breaks, an amount stands whole in a line, and nothing else is changed."""
    lines = wrap(" ".join(words), width, "- ", "  ")
    assert " ".join(line[2:] for line in lines) == " ".join(words)
    assert max(map(len, lines)) <= width
    assert sum(line.count(amount) for line in lines for amount in AMOUNTS) == sum(
        " ".join(words).count(amount) for amount in AMOUNTS
    )


def test_a_long_word_is_whole_or_cut() -> None:
    """What may have to be copied is whole; on a screen a line must fit."""
    assert wrap("a " + "x" * 30, 20) == ["a", "x" * 30]
    assert max(map(len, wrap("a " + "x" * 30, 20, whole_words=False))) == 20
