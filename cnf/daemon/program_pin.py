"""The pin of the program in bpffs, by which the next daemon knows it as cnfd's."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from cnf.datapath.build import Datapath
from cnf.kernel import pins
from cnf.kernel.hooks import XDP
from cnf.kernel.pins import MapPins


class ProgramPin:
    """Pin the program of a datapath, and remove what other daemons have pinned."""

    def __init__(self, datapath: Datapath, map_pins: MapPins, log: FilteringBoundLogger) -> None:
        """Pin beside the maps of ``map_pins``, which are the datapath's."""
        self._program_fd, self._program_id = datapath.programs[XDP.entry], datapath.program_id
        self._map_pins = map_pins
        self._log = log
        self.is_there = False
        """Whether the program and its maps are pinned."""

    def put(self) -> None:
        """Pin the program; log why it or its maps cannot be pinned."""
        folder, trouble = self._map_pins.folder, self._map_pins.trouble
        if folder:
            try:
                pins.pin(folder, self._program_fd, self._program_id)
            except OSError as error:
                trouble = error
        self.is_there = trouble is None
        if trouble:
            self._log.warning(
                "program not pinned",
                path=str(trouble.filename or folder),
                error=trouble.strerror,
                effect="a restart has a gap, and after a crash, the program will seem foreign to the next daemon",
                remedy=f"let this user alone write there; where bpffs is not mounted: {pins.MOUNT}",
            )

    def remove(self) -> None:
        """Unpin the program alone."""
        if self._map_pins.folder:
            pins.unpin_program(self._map_pins.folder, self._program_id)

    def remove_others(self) -> None:
        """Unpin what previous daemons have left; log it if maps were among that."""
        folder, path = self._map_pins.folder, self._map_pins.path
        if folder is None:
            return
        removed = pins.unpin(folder, str(self._program_id), path.name if path else "")
        if any(not name.isdecimal() for name in removed):
            self._log.warning(
                "flows and counters of the previous daemon discarded",
                reasons=["their maps were made by another version, or for another configuration or namespace"],
            )

    def remove_all(self) -> None:
        """Unpin the program and its maps."""
        if self._map_pins.folder:
            pins.unpin(self._map_pins.folder)
