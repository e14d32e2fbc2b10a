"""When a flow expires: after ``idle_timeout`` without a packet, or sooner once it has ended by FIN or RST. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.arrays import Mask
from cnf.clock import WallClock
from cnf.config import Flows

TCP_FIN: Final = 0x01
TCP_RST: Final = 0x04


def has_expired(
    last_seen: npt.NDArray[np.uint64], tcp_flags: npt.NDArray[Any], clock: WallClock, settings: Flows
) -> Mask:
    """Mark the flows that have expired, as flow_cache.h decides it for a packet that comes back."""
    idle, ended = (clock.ago(seconds) for seconds in (settings.idle_timeout, settings.ended_timeout))
    mask: Mask = (tcp_flags & tcp_flags.dtype.type(TCP_FIN | TCP_RST)) != 0
    mask &= last_seen < ended
    mask |= last_seen < idle
    return mask
