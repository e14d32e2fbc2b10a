"""What attaches the programs of a datapath to interfaces, for each direction and mode."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from cnf.datapath.build import Datapath
from cnf.direction import Direction
from cnf.kernel.attacher import Attacher
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from cnf.kernel.links import Mode
from cnf.kernel.tc import TcAttacher
from cnf.kernel.xdp import XdpAttacher

Attachers = Mapping[Direction, Mapping[Mode, Attacher]]


def attachers_for(
    datapath: Datapath, left_behind: Mapping[int, int], folder: Path | None, stack: ExitStack
) -> Attachers:
    """Return the attachers; ``stack`` closes them in the end.

    ``left_behind`` are descriptors, by id, of the programs that a previous daemon has left; ``folder`` is the one of
    the pins, None if this process does not hold it.

    Raises:
        KernelError: a socket cannot be made.

    """
    fds, ids = datapath.programs, datapath.program_ids
    xdp = stack.enter_context(XdpAttacher(fds[XDP.entry], ids[XDP.entry], left_behind))
    ingress, egress = (
        stack.enter_context(TcAttacher(hook, fds[hook.entry], ids[hook.entry], left_behind, folder))
        for hook in (TC_INGRESS, TC_EGRESS)
    )
    return {
        "ingress": {"native": xdp, "generic": xdp, "offloaded": xdp, "tc": ingress},
        "egress": {"tc": egress},
    }
