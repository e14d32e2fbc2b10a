"""An alarm: one call that is due at a time, and that can be put off or brought forward."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Alarm:
    """Call ``action`` in a thread of its own when it is due. Its owner sees to it that threads set it one by one."""

    def __init__(self, action: Callable[[], None]) -> None:
        """Have nothing due."""
        self._action = action
        self._timer: threading.Timer | None = None

    def set(self, seconds: float) -> None:
        """Have the call due in so many seconds, and no more when it was due before."""
        self.cancel()
        self._timer = threading.Timer(seconds, self._action)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Have nothing due. A call that is under way goes on."""
        if self._timer:
            self._timer.cancel()
