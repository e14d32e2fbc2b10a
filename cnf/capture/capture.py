"""Who captures: one client at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cnf.capture.asked import Asked
from cnf.capture.encoders import Encoder, LineEncoder, PcapngEncoder
from cnf.capture.reasons import Reasons
from cnf.capture.session import InterfaceNames, Peer, Session
from cnf.datapath.build import Datapath
from cnf.datapath.capture_maps import CaptureMaps
from cnf.datapath.counters import InterfaceCounters
from cnf.errors import UnavailableError

if TYPE_CHECKING:
    from cnf.limiter.limiter import Limiter


class Capture:
    """Begin and end captures. Any thread may call."""

    def __init__(
        self, datapath: Datapath, counters: InterfaceCounters, names: InterfaceNames, limiter: Limiter | None
    ) -> None:
        """Use the datapath's maps; end what a daemon that was killed has left. Raises MapError."""
        self._maps = CaptureMaps(datapath.maps)
        self._maps.extend(0)
        self._read_clock = datapath.read_clock
        self._counters, self._names, self._limiter = counters, names, limiter
        self._lock = threading.Lock()
        self._session: Session | None = None

    def begin(self, asked: Asked, peer: Peer) -> Session:
        """Begin to capture for a client.

        Raises:
            UnavailableError: somebody captures already.
            KernelError: the kernel refused.

        """
        with self._lock:
            if self._session is not None:
                other = self._session.peer
                message = f"uid {other.uid}, pid {other.pid} captures already, and only one can"
                raise UnavailableError(message, remedy="end that one: cnfctl capture --end")
            self._session = Session(
                asked,
                peer,
                self._encoder(asked),
                self._maps,
                self._counters,
                self._names,
                self._read_clock,
                self._forget,
            )
            return self._session

    def end(self) -> bool:
        """End the capture that there is, so that its client has all of it; return whether there is one."""
        with self._lock:
            if self._session:
                self._session.close()
            return self._session is not None

    def close(self) -> None:
        """End the capture that there is, wait for that, and let the maps go."""
        session = self._session
        if session:
            session.close()
            session.join()
        self._maps.ring.close()

    def counts(self) -> dict[str, int]:
        """Return the packets of all captures since the maps were made, by CAPTURE_RESULTS. Raises MapError."""
        return self._maps.counts()

    def _encoder(self, asked: Asked) -> Encoder:
        names = {index: each[0] for index, each in self._names().items()}
        reasons = Reasons(self._limiter, lambda index: self._names().get(index, ("",))[0])
        if asked.form == "jsonl":
            return LineEncoder(reasons)
        return PcapngEncoder(asked, reasons, self._counters.has_ethernet, names)

    def _forget(self) -> None:
        with self._lock:
            self._session = None
