"""Prefixes are found, and laid out so that one lookup tells of all sets."""

from __future__ import annotations

import time
from io import BytesIO
from ipaddress import ip_address, ip_network
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES
from cnf.limits.layout import BANK_BITS
from cnf.limits.prefix_file import read
from cnf.limits.prefixes import Prefixes, merged, separated
from cnf.limits.table import Network

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
    files = {number: read(BytesIO("\n".join(map(str, prefixes)).encode())) for number, prefixes in sets.items()}
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
            assert files[number].find(ip_network(address)) == max(within, key=lambda each: each.prefixlen, default=None)
            assert (separated(tables, number).find(ip_network(address)) is not None) == bool(within)


def test_an_address_is_found_among_many_in_no_time() -> None:
    """It is looked for where it would be, not everywhere."""
    many = b"".join(sorted(n.to_bytes(4) + bytes((32,)) for n in range(1 << 20)))
    prefixes = Prefixes({"ipv4": many, "ipv6": b""})
    began = time.thread_time()
    for number in range(100):
        assert prefixes.find(ip_network(number)) == ip_network(number)
    assert time.thread_time() - began < 0.5
    assert prefixes.find(ip_network("255.0.0.1")) is None
    assert prefixes.find(ip_network("0.0.0.0/31")) is None
