"""Files of prefixes are read in three forms, refused by line, and laid out so that one lookup tells of all sets."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from io import BytesIO
from ipaddress import ip_network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.limits import prefix_file
from cnf.limits.prefix_file import RefusedLinesError, packed
from cnf.limits.prefixes import OCTETS, Prefixes

EXPECTED: Final = {"192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"}
PLAIN: Final = """\ufeff# a list
; Spamhaus wrote so

192.0.2.0/24 ; SBL1
 198.51.100.7\t# one address\r
2001:db8::/32
192.0.2.0/24
"""
JSON: Final = """{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"apnic"}
{"cidr":"::ffff:198.51.100.7","sblid":"SBL2","rir":"apnic"}
{"cidr":"2001:db8::/32","sblid":"SBL3","rir":"ripencc"}
{"type":"metadata","timestamp":1750000000,"size":3,"records":3,"copyright":"(c)","terms":"https://"}
"""
IPSET: Final = """create bad hash:net family inet hashsize 1024 maxelem 65536 comment bucketsize 12 initval 0x1
add bad 192.0.2.0/24 timeout 300 comment "a scanner"
add bad 198.51.100.7
create bad6 hash:net family inet6
add bad6 2001:db8::/32 packets 0 bytes 0
"""


def read(data: bytes) -> Prefixes:
    """Return the prefixes of a file with this in it."""
    return prefix_file.read(BytesIO(data))


def networks(prefixes: Prefixes) -> set[str]:
    """Return them as people write them."""
    return {
        str(ip_network((row.tobytes()[:octets], row.tobytes()[octets])))
        for family, octets in OCTETS.items()
        for row in prefixes.each(family)
    }


@pytest.mark.parametrize("text", [PLAIN, JSON, IPSET], ids=["plain", "JSON", "ipset"])
def test_three_forms_are_read(text: str) -> None:
    """Each as what its first line says that it is."""
    prefixes = read(text.encode())
    assert networks(prefixes) == EXPECTED
    assert len(prefixes) == len(EXPECTED)


@pytest.mark.parametrize(
    "text", ["", "\n \n", "# nothing\n", "; nothing", '{"type":"metadata"}', "create a hash:net\n"]
)
def test_a_file_may_be_empty(text: str) -> None:
    """Then there is no prefix."""
    assert read(text.encode()) == Prefixes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("192.0.2.1/24", 'a prefix has no host bits: "192.0.2.1/24"'),
        ("0.0.0.0/0", 'a prefix has a length from 1 to 32: "0.0.0.0/0"'),
        ("::/0", 'a prefix has a length from 1 to 128: "::/0"'),
        ("::ffff:0:0/96", 'a prefix has a length from 1 to 32: "::ffff:0:0/96"'),
        ("192.0.2.0/33", 'a prefix has a length from 1 to 32: "192.0.2.0/33"'),
        ("192.0.2.0/+8", 'no length of a prefix: "192.0.2.0/+8"'),
        ("192.0.2.0/\u0661", "no length of a prefix: "),
        ("192.0.2.0/24 198.51.100.0/24", 'no length of a prefix: "192.0.2.0/24 198.51.100.0/24"'),
        ("example.org", 'no prefix: "example.org"'),
        ("1.2.3/24", 'no prefix: "1.2.3/24"'),
        ("\0", 'no prefix: "\\u0000"'),
        ("fe80::1%eth0", 'no prefix: "fe80::1%eth0"'),
        ("192.0.2.9-192.0.2.1", 'a range goes from an address to a higher one: "192.0.2.9-192.0.2.1"'),
        ("192.0.2.9-", "a range goes from an address to a higher one: "),
        ("0.0.0.0-255.255.255.255", 'a prefix has a length from 1 to 32: "0.0.0.0/0"'),
    ],
)
def test_what_is_no_prefix_is_refused_by_line(line: str, reason: str) -> None:
    """All other lines are fine, and the file is refused all the same."""
    with pytest.raises(RefusedLinesError) as caught:
        read(f"192.0.2.0/24\n{line}\n2001:db8::/32\n".encode())
    ((number, told),) = caught.value.first
    assert number == 2
    assert told.startswith(reason)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f'{JSON}{{\n[]\n{{}}\nnull\n{{"cidr":1}}\n{"[" * 4000}', [5, 6, 7, 8, 9, 10]),
        (f"{IPSET}add bad 192.0.2.0/24 nomatch\nflush bad\nadd bad\nadd bad 192.0.2.1,udp:53\n", [6, 7, 8, 9]),
    ],
)
def test_each_form_refuses_what_it_does_not_know(text: str, lines: list[int]) -> None:
    """Also what cannot be had, such as an exception of an ipset."""
    with pytest.raises(RefusedLinesError) as caught:
        read(text.encode())
    assert (caught.value.count, [number for number, _ in caught.value.first]) == (len(lines), lines[:5])


def test_an_error_names_the_first_lines() -> None:
    """And says how many more there are."""
    with pytest.raises(RefusedLinesError) as caught:
        read(b"x\n" * 999)
    assert str(caught.value).startswith('line 1: no prefix: "x"; line 2: ')
    assert str(caught.value).endswith("; and 994 more")


@given(st.binary(max_size=200))
def test_no_file_is_too_strange(data: bytes) -> None:
    """It is read or refused."""
    with suppress(RefusedLinesError):
        read(data)


def test_prefixes_are_ordered_and_unique() -> None:
    """So that two files of the same prefixes are the same."""
    assert read(b"2.0.0.0/8\n1.0.0.0/8\n2.0.0.0/8") == read(b"1.0.0.0/8\n2.0.0.0/8")
    assert packed("1.2.3.4") == bytes((1, 2, 3, 4, 32))


def test_a_range_is_the_prefixes_in_it() -> None:
    """In lists, and in what ipset saves."""
    expected = {"192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/31", "2001:db8::/127"}
    assert networks(read(b"192.0.2.1-192.0.2.5\n2001:db8:: - 2001:db8::1")) == expected
    assert networks(read(b"add a ::ffff:192.0.2.1-192.0.2.5\nadd a 2001:db8::-2001:db8::1")) == expected


@pytest.mark.parametrize(
    ("data", "first", "count"),
    [
        (b"10.0.0.1\n" + b"1" * 100_000_000, (2, "expected at most 4,194,304 lines of 4,096 bytes"), 1),
        (b"\0" * 10_000_000, (1, "expected at most 4,194,304 lines of 4,096 bytes"), 1),
        (b"x\n" * 5_000_000, (1, 'no prefix: "x"'), 1000),
        ("10.0.0.1\n10.0.0.2\n".encode("utf-16"), (1, 'no prefix: "\\u00ff\\u00fe1\\u00000'), 3),
        (b"10.0.0.1\r10.0.0.2\n", (1, 'no prefix: "10.0.0.1\\r10.0.0.2"'), 1),
    ],
    ids=["a line without an end", "zeros", "nothing but nonsense", "UTF-16", "lines of a Macintosh"],
)
def test_a_hostile_file_takes_no_memory(data: bytes, first: tuple[int, str], count: int) -> None:
    """It is read as far as it is looked at."""
    file = BytesIO(data)
    tracemalloc.start()
    with pytest.raises(RefusedLinesError) as caught:
        prefix_file.read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (caught.value.first[0][0], caught.value.count) == (first[0], count)
    assert caught.value.first[0][1].startswith(first[1])
    assert peak < 1_000_000
    assert file.tell() <= 2 * 4097 + 3 * count


def test_more_prefixes_than_the_kernel_has_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few lines they take; those that come again do not count."""
    monkeypatch.setattr(prefix_file, "MAX_SET_PREFIXES", 100)
    assert len(read(b"".join(b"10.0.0.%d\n" % (n % 100) for n in range(2000)))) == 100
    for data in (b"".join(b"10.0.0.%d\n" % n for n in range(101)), b"::1-ffff::fffe\n" * 3):
        with pytest.raises(RefusedLinesError, match="more than 100 prefixes of a family"):
            read(data)


def test_more_lines_than_there_could_be_prefixes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones, too."""
    monkeypatch.setattr(prefix_file, "MAX_LINES", 10)
    assert read(b"\n" * 10) == Prefixes()
    with pytest.raises(RefusedLinesError, match="line 11: expected at most 10 lines"):
        read(b"\n" * 11)
