"""What a daemon holds: memory and how it grows, descriptors, threads, programs and maps."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from tests.net.namespaces import Namespace

PINS: Final = Path("/sys/fs/bpf/cnf")
ENOUGH: Final = 1.0
"""Hours of samples from which on the slope is judged: in less, the noise of some 100 kB is a slope of 1 MB/h."""


class Holdings(NamedTuple):
    """How much a process holds."""

    descriptors: int
    threads: int
    programs: int
    maps: int
    pins: int


def holdings(process: int, namespace: Namespace) -> Holdings:
    """Return what the daemon ``process`` holds, and how many pins there are of its namespace."""
    entries = []
    for entry in Path(f"/proc/{process}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # a connection that has just been closed
            entries.append(entry.read_text(encoding="ascii"))
    ids = {key: set(re.findall(rf"^{key}:\s+(\d+)", "\n".join(entries), re.MULTILINE)) for key in ("prog_id", "map_id")}
    return Holdings(
        descriptors=len(entries),
        threads=len([*Path(f"/proc/{process}/task").iterdir()]),
        programs=len(ids["prog_id"]),
        maps=len(ids["map_id"]),
        pins=sum(not path.is_dir() for path in pins(namespace).rglob("*")),
    )


def pins(namespace: Namespace) -> Path:
    """Return the folder of the pins of a namespace."""
    return PINS / f"netns-{namespace.path.stat().st_ino}"


class Memory:
    """Samples of the resident memory of a process, from when it has warmed up."""

    def __init__(self, warm_up: float) -> None:
        """Leave out the first ``warm_up`` seconds."""
        self._warm_up = warm_up
        self._samples: list[tuple[float, float]] = []
        self._born = 0.0

    def begin(self) -> None:
        """Start again, with another process."""
        self._samples = []
        self._born = time.monotonic()

    def sample(self, process: int) -> float:
        """Take a sample, and return it in MB."""
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        size = int(kibibytes) * 1024 / 1e6
        if (now := time.monotonic()) >= self._born + self._warm_up:
            self._samples.append((now / 3600, size))
        return size

    @property
    def hours(self) -> float:
        """For how long there are samples."""
        return self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0

    @property
    def slope(self) -> float:
        """MB an hour, by least squares; 0 without samples."""
        if not self.hours:
            return 0.0
        times, sizes = np.array(self._samples).T
        times -= times.mean()
        return float(times @ sizes / (times @ times))
