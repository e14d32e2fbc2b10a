"""Facts about an XDP program that is not ours: its name, and whether it is libxdp's dispatcher.

libxdp, of xdp-tools, attaches a program of its own that calls the others, and pins it in bpffs by interface and id. A
program's name is shown to CAP_SYS_ADMIN only, and the pins are in a folder that only root may enter.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from cnf.kernel import libbpf
from cnf.kernel.pins import BPFFS

if TYPE_CHECKING:
    from cnf.kernel.links import Link, Program

# lib/libxdp of xdp-tools: xdp-dispatcher.c.in, and the path of libxdp.c for pins
DISPATCHER: Final = "xdp_dispatcher"
PINS: Final = BPFFS / "xdp"

# ip-link(8)'s words; its plain "xdp off" misses a generic program where the driver has native XDP
KEYWORDS: Final = {"native": "xdpdrv", "generic": "xdpgeneric", "offloaded": "xdpoffload"}


def left_alone(link: Link, program: Program) -> tuple[str, str]:
    """Return the words for somebody else's program on ``link``, and how to learn more and to take it off."""
    known, remedy = _describe(link, program)
    return f"program {program.id} ({known}) is on it and is left alone", remedy


def named(program_id: int) -> str:
    """Return the words for somebody else's program: its id, and its name where that is shown."""
    name = _name(program_id)
    return f"program {program_id} (named {name})" if name else f"program {program_id}"


def _describe(link: Link, program: Program) -> tuple[str, str]:
    """Return what is known of the program, and the remedy."""
    mode, number = program
    name = _name(number)
    dispatcher = name == DISPATCHER if name is not None else _has_pin(link.index, number)
    look = f"see whose it is: bpftool prog show id {number}"
    take_off = f"take it off: ip link set dev {shlex.quote(link.shown)} {KEYWORDS[mode]} off"
    if dispatcher:
        look, take_off = "see what it runs: xdp-loader status", f"take it off: xdp-loader unload {link.shown} --all"
        return f"{mode}, libxdp's dispatcher", f"{look}; {take_off}"
    if dispatcher is None:
        return f"{mode}, perhaps libxdp's dispatcher", f"{look}, xdp-loader status; {take_off}"
    return f"{mode}, named {name}" if name else mode, f"{look}; {take_off}"


def _name(program_id: int) -> str | None:
    try:
        return libbpf.program_name(program_id)
    except OSError:
        return None


def _has_pin(ifindex: int, program_id: int) -> bool | None:
    """Tell whether libxdp has pinned the program as its dispatcher; None if this user may not look."""
    try:
        (PINS / f"dispatch-{ifindex}-{program_id}").stat()
    except PermissionError:
        return None
    except OSError:
        return False
    return True
