"""The kernel's side of a capture: what is copied, until when, and what has become of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from cnf.abi import CAPTURE_RESULTS, CAPTURE_SETTINGS
from cnf.kernel.byte_ring import ByteRing
from cnf.kernel.maps import Array, CounterArray, DirectArray

_WORD: Final = np.dtype("<u8")


class CaptureMaps:
    """The maps of ``capture.h`` and ``capture_copy.h``."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name. Raises MapError."""
        self._until = DirectArray("capture_until", maps["capture_until"], _WORD)
        self._settings = Array("capture_settings", maps["capture_settings"], CAPTURE_SETTINGS)
        self._spent = Array("capture_spent", maps["capture_spent"], _WORD)
        self._counters = CounterArray("capture_counters", maps["capture_counters"])
        self.ring = ByteRing("capture_ring", maps["capture_ring"])

    def set(self, session: int, verdicts: int, snaplen: int, budget: int) -> None:
        """Say what is copied from the next ``extend()`` on: as struct capture_settings has it. Raises MapError."""
        self._settings.write(0, np.array((session, verdicts, snaplen, budget), CAPTURE_SETTINGS))
        self._spent.write(0, np.zeros((), _WORD))

    def extend(self, until: int) -> None:
        """Have frames copied before the tick ``until``; 0 ends it. Raises MapError."""
        self._until.write(0, np.array(until, _WORD))

    def counts(self) -> dict[str, int]:
        """Return the packets of frames that were asked for since the maps were made, by CAPTURE_RESULTS."""
        sums = self._counters.sums(0, len(CAPTURE_RESULTS))
        return dict(zip(CAPTURE_RESULTS, sums["packets"].tolist(), strict=True))
