"""A bell: whoever has more to tell rings it, and all who wait for more are called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Bell:
    """Any thread may ring it, and may listen."""

    def __init__(self) -> None:
        """Have nobody listen."""
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], object]] = []

    def ring(self) -> None:
        """Call who listens, in this thread."""
        with self._lock:
            for listener in self._listeners:
                listener()

    @contextmanager
    def heard_by(self, listener: Callable[[], object]) -> Iterator[None]:
        """Have ``listener``, which returns at once, called at each ring for the length of the block."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
