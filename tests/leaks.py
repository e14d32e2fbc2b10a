"""What a test may leave behind, listed before and after it: only what this process, or one of its own, can have made.

A program or a map lives as long as a descriptor, a mapping, a pin or an interface has it. So no list of all that the
kernel has is needed, in which the ones of other runs would stand, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests import seclusion

PATIENCE: Final = 5.0
"""Seconds in which the kernel has let go of what a dead process or namespace held; it does so in the background."""


class Inventory(NamedTuple):
    """What there is, each thing as text that tells it from every other."""

    descriptors: frozenset[str]
    mappings: frozenset[str]
    threads: frozenset[str]
    processes: frozenset[str]
    pins: frozenset[str]
    namespaces: frozenset[str]


def take() -> Inventory:
    """List what this process and its children hold; pins and namespaces are the run's own (seclusion.py)."""
    return Inventory(
        descriptors=frozenset(_descriptors()),
        mappings=frozenset(_mappings()),
        threads=frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate()),
        processes=frozenset(_children()),
        pins=frozenset(map(str, seclusion.BPFFS.rglob("*"))),
        namespaces=frozenset(_listed(seclusion.NAMESPACES)),
    )


def left_behind(before: Inventory) -> list[str]:
    """Return what is there now and was not ``before``, once the kernel had its time."""
    deadline = time.monotonic() + PATIENCE
    while leaks := since(before):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return leaks


def since(before: Inventory) -> list[str]:
    """Return what is there at this moment and was not ``before``, a line for each kind."""
    now = take()
    more = {kind: sorted(getattr(now, kind) - getattr(before, kind)) for kind in Inventory._fields}
    return [f"{kind}: {', '.join(items)}" for kind, items in more.items() if items]


def _descriptors() -> Iterator[str]:
    for entry in _listed("/proc/self/fd"):
        try:
            yield f"{entry} -> {Path('/proc/self/fd', entry).readlink()}"
        except OSError:
            continue  # the descriptor that listed the folder


def _mappings() -> Iterator[str]:
    """Yield the mappings of BPF maps, which keep a map without a descriptor."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        if "bpf" in line.rpartition(" ")[2]:
            yield line.split()[0] + " " + line.rpartition(" ")[2]


def _children() -> Iterator[str]:
    for task in _listed("/proc/self/task"):
        try:
            yield from Path(f"/proc/self/task/{task}/children").read_text(encoding="ascii").split()
        except OSError:
            continue  # gone meanwhile


def _listed(folder: str | Path) -> list[str]:
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except OSError:
        return []  # not there, or gone meanwhile
