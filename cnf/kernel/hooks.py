"""The hooks of the kernel that our program hangs on. Light to import: what to build is known before numpy is loaded.

How a program is put on a hook and taken off it is in files of their own: xdp.py, and tc.py.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cnf.direction import Direction


class Hook(NamedTuple):
    """A place in the way of a packet where the kernel runs a program."""

    direction: Direction
    """Which packets of an interface pass it."""
    entry: str
    """The function of bpf/flow.c that is run there; the loaded program has its name."""
    program_type: int
    """enum bpf_prog_type of linux/bpf.h."""


XDP: Final = Hook("ingress", "cnf_ingress", 6)
TC_INGRESS: Final = Hook("ingress", "cnf_skb_ingress", 3)
TC_EGRESS: Final = Hook("egress", "cnf_skb_egress", 3)
RECEIVING: Final = (XDP, TC_INGRESS)
HOOKS: Final = (*RECEIVING, TC_EGRESS)
