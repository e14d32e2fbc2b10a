"""Packets and bytes, counted together. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Count(NamedTuple):
    """Packets and bytes."""

    packets: int = 0
    bytes: int = 0

    def plus(self, other: Count) -> Count:
        """Return the sum, field by field."""
        return Count(self.packets + other.packets, self.bytes + other.bytes)

    def minus(self, other: Count) -> Count:
        """Return the difference, field by field."""
        return Count(self.packets - other.packets, self.bytes - other.bytes)


def total(counts: Iterable[Count]) -> Count:
    """Add up counts."""
    result = Count()
    for count in counts:
        result = result.plus(count)
    return result


def count_of(packets: npt.NDArray[np.uint64], octets: npt.NDArray[np.uint64]) -> Count:
    """Return the sums of two columns."""
    return Count(int(packets.sum(dtype=np.uint64)), int(octets.sum(dtype=np.uint64)))
