"""Files of prefixes are read in three forms, refused by line, and laid out so that one lookup tells of all sets."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES
from cnf.limits.layout import BANK_BITS
from cnf.limits.prefix_file import OCTETS, Prefixes, RefusedLinesError, merged, packed, read, separated
from cnf.limits.table import Network

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
    ],
)
def test_what_is_no_prefix_is_refused_by_line(line: str, reason: str) -> None:
    """All other lines are fine, and the file is refused all the same."""
    with pytest.raises(RefusedLinesError) as caught:
        read(f"192.0.2.0/24\n{line}\n2001:db8::/32\n".encode())
    ((number, told),) = caught.value.lines
    assert number == 2
    assert told.startswith(reason)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f'{JSON}{{\n[]\n{{}}\nnull\n{{"cidr":1}}\n{"[" * 100_000}', [5, 6, 7, 8, 9, 10]),
        (f"{IPSET}add bad 192.0.2.0/24 nomatch\nflush bad\nadd bad\nadd bad 192.0.2.1,udp:53\n", [6, 7, 8, 9]),
    ],
)
def test_each_form_refuses_what_it_does_not_know(text: str, lines: list[int]) -> None:
    """Also what cannot be had, such as an exception of an ipset."""
    with pytest.raises(RefusedLinesError) as caught:
        read(text.encode())
    assert [number for number, _ in caught.value.lines] == lines


def test_an_error_names_the_first_lines() -> None:
    """And says how many more there are."""
    with pytest.raises(RefusedLinesError) as caught:
        read(b"x\n" * 1007)
    assert str(caught.value).startswith('line 1: no prefix: "x"; line 2: ')
    assert str(caught.value).endswith("; and 1,002 more")


@given(st.binary(max_size=200))
def test_no_file_is_too_strange(data: bytes) -> None:
    """It is read or refused."""
    with suppress(RefusedLinesError):
        read(data)


PREFIXES: Final = st.lists(
    st.one_of(
        st.builds(
            lambda address, bits: ip_network((address, bits), strict=False), st.ip_addresses(v=4), st.integers(1, 32)
        ),
        st.builds(lambda n, bits: ip_network((n << 24, bits), strict=False), st.integers(0, 255), st.integers(1, 32)),
        st.builds(
            lambda n, bits: ip_network((n << 96, bits), strict=False),
            st.integers(1 << 28, 1 << 30),
            st.integers(1, 128),
        ),
    ),
    max_size=20,
)


@given(st.dictionaries(st.integers(0, 63), PREFIXES, max_size=4), st.ip_addresses())
def test_the_longest_prefix_answers_for_all_sets(sets: dict[int, list[Network]], drawn: object) -> None:
    """Whatever the sets, what stands beside it is which of them hold an address."""
    files = {number: read("\n".join(map(str, prefixes)).encode()) for number, prefixes in sets.items()}
    tables = merged(files)
    addresses = [ip_address(str(drawn)), *(prefix.network_address for each in sets.values() for prefix in each)]
    for address in addresses:
        keys, bits = tables[FAMILIES[address.version == 6]]
        holding = {
            int(key["length"]) - BANK_BITS: int(bit)
            for key, bit in zip(keys, bits, strict=True)
            if address in ip_network((key["addr"].tobytes(), int(key["length"]) - BANK_BITS))
        }
        expected = sum(1 << number for number, prefixes in sets.items() if any(address in each for each in prefixes))
        assert holding.get(max(holding, default=0), 0) == expected
        for number, prefixes in sets.items():
            within = [each for each in prefixes if address in each]
            assert files[number].find(address) == max(within, key=lambda each: each.prefixlen, default=None)
            assert (separated(tables, number).find(address) is not None) == bool(within)


def test_prefixes_are_ordered_and_unique() -> None:
    """So that two files of the same prefixes are the same."""
    assert read(b"2.0.0.0/8\n1.0.0.0/8\n2.0.0.0/8") == read(b"1.0.0.0/8\n2.0.0.0/8")
    assert packed("1.2.3.4") == bytes((1, 2, 3, 4, 32))
