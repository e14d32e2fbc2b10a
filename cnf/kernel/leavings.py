"""The programs that a daemon has left on interfaces at its end, and how they are taken off.

Its program is known by a pin. Where that is missing, it is known by its name and by a map that no other has: to look at
a program by its id takes CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from cnf.direction import DIRECTIONS
from cnf.errors import AttachError, MapError
from cnf.kernel import libbpf, pins
from cnf.kernel.attacher import Attacher, Ours
from cnf.kernel.hooks import HOOKS, TC_EGRESS, TC_INGRESS
from cnf.kernel.links import Link, Links
from cnf.kernel.refusal import reported
from cnf.kernel.tc import TcAttacher, programs
from cnf.kernel.xdp import XdpAttacher

ENTRIES: Final = frozenset(hook.entry for hook in HOOKS)
MAP: Final = "table_counters"
_NONE: Final = Ours(-1, 0)
"""No program: this process attaches none."""


class Taken(NamedTuple):
    """The result of taking everything back."""

    interfaces: tuple[str, ...]
    """Names of those from which a program was taken off."""
    unpinned: tuple[str, ...]
    refused: tuple[str, ...]
    """A line for each interface that still has its program; then the pins stay, so that it is known the next time."""


def take_back(folder: Path | None, links: Links) -> Taken:
    """Take what a daemon of this network namespace has left off every interface, and unpin it; nothing else.

    ``folder`` is the one of the pins, which this process holds; None if it does not.

    Raises:
        KernelError: the interfaces cannot be listed.

    """
    interfaces, refused = [], []
    with ExitStack() as stack:
        pinned = stack.enter_context(pins.left_behind(folder))
        present = links.read()
        ours = {**pinned, **stack.enter_context(_unpinned(present, pinned))}
        attachers: list[Attacher] = [stack.enter_context(XdpAttacher(_NONE, ours))]
        attachers += [stack.enter_context(TcAttacher(hook, _NONE, ours, folder)) for hook in (TC_INGRESS, TC_EGRESS)]
        for link in present:
            for attacher in attachers:
                try:
                    if attacher.clean(link) and link.name not in interfaces:
                        interfaces.append(link.name)
                except AttachError as error:
                    refused.append(str(error))
        for attacher in attachers:
            attacher.clean_others()
    unpinned = pins.unpin(folder) if folder and not refused else []
    return Taken(tuple(interfaces), tuple(unpinned), tuple(refused))


def programs_on(links: Iterable[Link]) -> set[int]:
    """Return the ids of the programs that are on interfaces where cnfd's can be, whoever they belong to.

    Raises:
        KernelError: it cannot be told.

    """
    found = set()
    with reported("listing the interfaces' programs"):
        for link in links:
            found |= {link.program.id} if link.program else set()
            for direction in DIRECTIONS:
                found |= {*programs(link.index, direction)}
    return found


def is_ours(program: int) -> bool:
    """Tell whether the program behind a descriptor is of some version of cnfd; where it cannot be told, it is not."""
    try:
        return libbpf.name_of(program) in ENTRIES and MAP in libbpf.map_names(program)
    except (OSError, MapError):
        return False


@contextmanager
def _unpinned(present: tuple[Link, ...], pinned: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Open the programs of ours that are on interfaces and not pinned: descriptors by program id."""
    found: dict[int, int] = {}
    try:
        for number in programs_on(present) - pinned.keys():
            with suppress(OSError):
                fd = libbpf.open_program(number)
                found[number] = fd
                if not is_ours(fd):
                    os.close(found.pop(number))
        yield found
    finally:
        for fd in found.values():
            os.close(fd)
