"""Capabilities are dropped for good, but for those that turn out to be needed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cnf.errors import KernelError
from cnf.kernel import capabilities

ALL = capabilities.NEEDED | capabilities.SPEED
NET_ADMIN, BPF, PERFMON = (1 << ALL[name] for name in ("CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"))


def own() -> dict[str, int]:
    """Return the capabilities of this thread, of those that cnfd uses, by set."""
    status = Path("/proc/thread-self/status").read_text(encoding="ascii")
    sets = re.findall(r"Cap(Prm|Eff):\t(\w+)", status)
    return {kind: int(bits, 16) & (NET_ADMIN | BPF | PERFMON) for kind, bits in sets}


def test_what_is_not_needed_is_dropped() -> None:
    """What the attempt does without is neither in effect nor permitted any more, in this thread alone."""
    with ThreadPoolExecutor(1) as another:
        dropped = another.submit(capabilities.drop, capabilities.LOADING, lambda: None).result()
        assert set(dropped) == {"CAP_BPF", "CAP_PERFMON"}
        assert another.submit(own).result() == {"Prm": NET_ADMIN, "Eff": NET_ADMIN}
    assert own() == dict.fromkeys(("Prm", "Eff"), NET_ADMIN | BPF | PERFMON)


def test_what_is_needed_stays() -> None:
    """A kernel that wants CAP_BPF for each call, as before Linux 5.19, leaves a daemon that has it."""

    def needs_bpf() -> None:
        if not own()["Eff"] & BPF:
            raise KernelError("Operation not permitted")

    with ThreadPoolExecutor(1) as another:
        assert another.submit(capabilities.drop, capabilities.LOADING, needs_bpf).result() == ("CAP_PERFMON",)
        assert another.submit(own).result() == dict.fromkeys(("Prm", "Eff"), NET_ADMIN | BPF)
