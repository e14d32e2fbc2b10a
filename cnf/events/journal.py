"""First drops as log lines, few a minute: an attack from many sources would be one line each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from cnf.events.log import FIRST_DROP, Batch
from cnf.process.repeats import Repeats

A_MINUTE: Final = 20


class FirstDropLines:
    """Log who is held back, or denied, for the first time: at most A_MINUTE lines within any minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Have half of the lines at once, and the other half by and by; ``now`` is in seconds, and never goes back."""
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._now = now
        self._repeats = Repeats(A_MINUTE // 2, A_MINUTE / 2 / 60)

    def write(self, batch: Batch) -> None:
        """Log the first drops in ``batch``; a line says how many before it were left out."""
        for row in np.flatnonzero(batch.records["kind"] == FIRST_DROP).tolist():
            left_out = self._repeats.admit(FIRST_DROP, self._now())
            if left_out is None:
                continue
            (event,) = batch.objects(batch.first + row, batch.first + row + 1)
            shown = {name: event[name] for name in ("source", "address", "rule", "denied", "set", "interface", "seq")}
            self._log.info("first drop", **shown, **({"left_out": left_out} if left_out else {}))
