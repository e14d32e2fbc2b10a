"""What attaches the programs of a datapath to interfaces, for each direction and mode."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from cnf.datapath.build import Datapath
from cnf.direction import Direction
from cnf.kernel import libbpf
from cnf.kernel.attacher import Attacher, Ours, Programs
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from cnf.kernel.links import Mode
from cnf.kernel.tc import TcAttacher
from cnf.kernel.xdp import XdpAttacher

Attachers = Mapping[Direction, Mapping[Mode, Attacher]]


def programs_of(fds: Mapping[str, int]) -> Programs:
    """Return the programs behind descriptors, both by the names of their entry points."""
    return {name: Ours(fd, libbpf.program_id(fd)) for name, fd in fds.items()}


def attachers_for(
    datapath: Datapath, left_behind: Mapping[int, int], folder: Path | None, stack: ExitStack
) -> Attachers:
    """Return the attachers; ``stack`` closes them in the end.

    ``left_behind`` are descriptors, by id, of the programs that a previous daemon has left; ``folder`` is the one of
    the pins, None if this process does not hold it.

    Raises:
        KernelError: a socket cannot be made.

    """
    ours, limiting = programs_of(datapath.programs), programs_of(datapath.limiting)
    others = {entry: [program] for entry, program in limiting.items()}
    xdp = stack.enter_context(XdpAttacher(ours[XDP.entry], left_behind, others.get(XDP.entry, ())))
    ingress, egress = (
        stack.enter_context(TcAttacher(hook, ours[hook.entry], left_behind, folder, others.get(hook.entry, ())))
        for hook in (TC_INGRESS, TC_EGRESS)
    )
    return {
        "ingress": {"native": xdp, "generic": xdp, "offloaded": xdp, "tc": ingress},
        "egress": {"tc": egress},
    }
