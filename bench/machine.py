"""The machine: what it is, and how much it and others disturbed the run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from bench.report import Figure, Section

STEAL: Final = 7
"""Its place among the times of a CPU, proc_stat(5)."""


def describe(bcc_version: str) -> str:
    """Return hardware and software in a line."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "CPU")
    software = f"Linux {platform.release()}, BCC {bcc_version}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {software}, numpy {np.__version__}"


class Noise:
    """What the machine did besides, from this object's making on."""

    def __init__(self) -> None:
        """Start."""
        self._before = _times()
        self._load = os.getloadavg()[0]

    def document(self, bare: Figure, together: Sequence[float]) -> dict[str, Any]:
        """Return it as JSON has it, with the spread of a bare pass, and how much of runs on two CPUs coincided."""
        spent = _times() - self._before
        return {
            "bare_pass_ns": {"min": bare.best, "median": bare.median, "max": max(bare.values)},
            "load_before": self._load,
            "stolen": float(spent[STEAL] / spent.sum()),
            "two_cpus_together": median(together) if together else None,
        }


def section(noise: Mapping[str, Any]) -> Section:
    """Return what ``Noise.document()`` has returned, in words."""
    bare = noise["bare_pass_ns"]
    notes = [
        f"bare passes took {bare['min']:.1f} to {bare['max']:.1f} ns",
        f"load before the run: {noise['load_before']:.1f}; the host kept {noise['stolen']:.1%} of the CPUs' time",
    ]
    if noise["two_cpus_together"] is not None:
        notes.append(
            f"runs on two CPUs were side by side {noise['two_cpus_together']:.0%} of their time, in the median"
        )
    return Section("noise", notes=notes)


def _times() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the CPUs' times since boot, in ticks, by what they were spent on."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        return np.array(file.readline().split()[1:9], np.int64)
