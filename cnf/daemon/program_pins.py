"""The pins of the programs in bpffs, by which the next daemon knows them as cnfd's."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from cnf.datapath.build import Datapath
from cnf.kernel import libbpf, pins, tcx
from cnf.kernel.pins import MapPins


class ProgramPins:
    """Pin the programs of a datapath, and remove what other daemons have pinned."""

    def __init__(self, datapath: Datapath, map_pins: MapPins, log: FilteringBoundLogger) -> None:
        """Pin beside the maps of ``map_pins``, which are the datapath's."""
        fds = [*(datapath.programs[hook.entry] for hook in datapath.blueprint.hooks), *datapath.limiting.values()]
        self._programs = {libbpf.program_id(fd): fd for fd in fds}
        self._map_pins = map_pins
        self._log = log
        self.are_there = False
        """Whether the programs and their maps are pinned."""

    def put(self) -> None:
        """Pin the programs; log why they or their maps cannot be pinned."""
        folder, trouble = self._map_pins.folder, self._map_pins.trouble
        if folder:
            try:
                for program_id, program_fd in self._programs.items():
                    pins.pin(folder, program_fd, program_id)
            except OSError as error:
                trouble = error
        self.are_there = trouble is None
        if trouble:
            self._log.warning(
                "program not pinned",
                path=str(trouble.filename or folder),
                error=trouble.strerror,
                effect="a restart has a gap, and after a crash, the program will seem foreign to the next daemon",
                remedy=f"let this user alone write there; where bpffs is not mounted: {pins.MOUNT}",
            )

    def remove(self) -> None:
        """Unpin the programs alone."""
        if self._map_pins.folder:
            for program_id in self._programs:
                pins.unpin_program(self._map_pins.folder, program_id)

    def remove_others(self) -> None:
        """Unpin what previous daemons have left; log it if maps were among that."""
        folder, path = self._map_pins.folder, self._map_pins.path
        if folder is None:
            return
        removed = pins.unpin(folder, *map(str, self._programs), path.name if path else "", tcx.FOLDER)
        if any(not name.isdecimal() for name in removed):
            self._log.warning(
                "flows and counters of the previous daemon discarded",
                reasons=["their maps were made by another version, or for another configuration or namespace"],
            )

    def remove_all(self) -> None:
        """Unpin the programs, their links, and their maps."""
        if self._map_pins.folder:
            pins.unpin(self._map_pins.folder)
