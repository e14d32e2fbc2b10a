"""Ranges of addresses, from one to another, as the prefixes that hold just these. Pure."""

from __future__ import annotations

from ipaddress import ip_address, summarize_address_range

from cnf.addresses import unmapped
from cnf.limits.table import Network
from cnf.readers import shown


def prefixes(text: str) -> list[Network]:
    """Return the fewest prefixes that hold what ``text``, two addresses with a hyphen between, does.

    Raises:
        ValueError: it is no range.

    """
    try:
        first, last = (ip_address(unmapped(end.strip())) for end in text.split("-"))
        return list(summarize_address_range(first, last))
    except (ValueError, TypeError):
        raise ValueError(f"a range goes from an address to a higher one: {shown(text)}") from None
