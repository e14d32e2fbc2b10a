"""Bring a built program into the kernel: its maps, made or kept, and its functions, whoever has built it."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cnf.datapath.program import Program
from cnf.errors import KernelError, VerifierError
from cnf.kernel import capabilities, libbpf
from cnf.kernel.libbpf import MapKind
from cnf.kernel.pins import remove
from cnf.kernel.refusal import reported

MAP_LINK: Final = "anon_inode:bpf-map"
"""The target of a map's descriptor in /proc."""
SECCOMP_REMEDY: Final = (
    "the capabilities are there, so a filter of system calls stands before: the container's seccomp profile has to"
    " allow bpf, as those of containerd 1.7 and Docker 23 do with CAP_BPF"
)
MEMORY_REMEDY: Final = "cnfctl doctor says what a start takes, and how much there may be; lower flows.max_entries"


@dataclass(slots=True)
class Loaded:
    """Descriptors of maps and functions, by name, and which maps are a previous daemon's."""

    maps: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    limiting: dict[str, int] = field(default_factory=dict)
    """As of Program."""
    kept: frozenset[str] = frozenset()
    discarded: tuple[str, ...] = ()
    """The reasons why maps that were pinned are not kept."""

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (*self.maps.values(), *self.functions.values(), *self.limiting.values()):
            os.close(fd)


def load(program: Program, made: Mapping[str, int], limiter_maps: Collection[str], pins: Path | None) -> Loaded:
    """Load a program onto the maps that are pinned in ``pins``, or onto new ones, which are pinned there.

    ``made`` are maps that BCC has made already: one that is as the program wants it is taken.

    Raises:
        VerifierError: the kernel refused the program.
        KernelError: it refused anything else.

    """
    loaded = Loaded()
    try:
        if pins is None:
            _make(program.maps, made, None, loaded)
        else:
            _keep(program.maps, made, limiter_maps, pins, loaded)
        descriptors = [loaded.maps[name] for name in program.maps]
        for functions, fds in ((program.functions, loaded.functions), (program.limiting, loaded.limiting)):
            for name, function in functions.items():
                try:
                    fds[name] = libbpf.load_program(name, function.type, function.linked(descriptors))
                except libbpf.RejectedError as error:
                    raise _rejected(name, error) from error
    except BaseException:
        loaded.close()
        if pins:
            for name in loaded.maps.keys() - loaded.kept:
                (pins / name).unlink(missing_ok=True)
        raise
    return loaded


def remedy_of(words: str) -> str:
    """Return what to do where the kernel has made no map and has said so in these words."""
    remedies = {errno.EMFILE: "raise LimitNOFILE=", errno.EPERM: SECCOMP_REMEDY}
    return next((remedy for number, remedy in remedies.items() if os.strerror(number) in words), MEMORY_REMEDY)


def _make(kinds: Mapping[str, MapKind], made: Mapping[str, int], pins: Path | None, loaded: Loaded) -> None:
    """Make the maps that are not there yet, and pin them."""
    for name, kind in kinds.items():
        if name in loaded.kept:
            continue
        try:
            fits = name in made and libbpf.map_kind(made[name]) == kind
            loaded.maps[name] = os.dup(made[name]) if fits else libbpf.make_map(name, kind)
        except OSError as error:
            words = error.strerror or str(error)
            raise KernelError(f"the kernel made no map {name}: {words}", remedy=remedy_of(words)) from error
        if pins:
            with reported(f"pinning map {name}"):
                libbpf.pin(loaded.maps[name], pins / name)


def _keep(
    kinds: Mapping[str, MapKind], made: Mapping[str, int], limiter_maps: Collection[str], pins: Path, loaded: Loaded
) -> None:
    """Take the maps that are pinned, and make the others.

    They are kept as a whole, or not at all; but where none of ``limiter_maps`` is pinned, these are made anew.
    """
    with reported(f"looking for maps in {pins}"), _pinned(pins) as there:
        anew = set(limiter_maps) if there.keys().isdisjoint(limiter_maps) else set()
        missing = [f"{name} is missing" for name in kinds if name not in there and name not in anew]
        others = [f"{name} is none of this version's maps" for name, fd in there.items() if name not in kinds or fd < 0]
        unlike = [
            f"{name} is not as this version has it"
            for name, fd in there.items()
            if name in kinds and fd >= 0 and libbpf.map_kind(fd) != kinds[name]
        ]
        reasons = sorted(missing + others + unlike)
        if reasons:
            for name in there:
                remove(pins / name)
            loaded.discarded = tuple(reasons) if there else ()
        else:
            loaded.kept = frozenset(there)
        loaded.maps = {name: os.dup(there[name]) for name in loaded.kept}
    _make(kinds, made, pins, loaded)


@contextmanager
def _pinned(pins: Path) -> Iterator[dict[str, int]]:
    """Open all that is pinned: descriptors of maps by name, -1 for a program, a folder, and what cannot be opened."""
    there = {pin.name: _open(pin) for pin in pins.iterdir()}
    try:
        yield there
    finally:
        for fd in there.values():
            if fd >= 0:
                os.close(fd)


def _open(pin: Path) -> int:
    with suppress(OSError):
        fd = libbpf.open_pin(pin)
        if Path(f"/proc/self/fd/{fd}").readlink().name == MAP_LINK:
            return fd
        os.close(fd)
    return -1


def _rejected(name: str, error: libbpf.RejectedError) -> VerifierError:
    lines = [line for line in error.log.splitlines() if line.strip() and not line.startswith("processed ")]
    last = lines[-1] if lines else "no log"
    cause = f"{capabilities.refused()}; " if capabilities.missing(capabilities.SPEED) else ""
    omitted = f"{cause}{max(len(lines) - 1, 0)} lines omitted; log level debug shows them"
    message = f"the kernel rejected the program: {name}: {error.strerror}: {last}"
    return VerifierError(message, remedy=omitted, details=error.log)
