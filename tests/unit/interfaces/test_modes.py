"""Which modes are tried on which interface, and that one which the kernel refuses is asked for once."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import structlog

from cnf import config
from cnf.direction import Direction
from cnf.errors import AttachError
from cnf.interfaces.modes import Modes, choose
from cnf.kernel.attacher import Attacher, Ours, Standing
from cnf.kernel.links import ARPHRD_ETHER, Link, Mode, Program
from cnf.kernel.xdp import AboveError

ETH0 = Link(2, "eth0", ARPHRD_ETHER, 1500)
VETH = Link(3, "veth0", ARPHRD_ETHER, 1500, "veth")
WIREGUARD = Link(4, "wg0", 65534, 1420, "wireguard")


class Kernel:
    """A kernel that refuses modes."""

    entry = "cnf_ingress"
    program = Ours(3, 7)

    def __init__(self, *refuses: str, left: Mode | None = None) -> None:
        """Refuse these; ``left`` is the mode of a previous daemon's program."""
        self.refuses = refuses
        self.asked: list[str] = []
        self.refusal = AttachError
        self._left = left

    def attach(self, link: Link, mode: Mode) -> Standing:
        """Attach, unless it is to refuse."""
        self.asked.append(mode)
        if mode in self.refuses:
            raise self.refusal(f"interface {link.name}: no {mode}")
        return Standing(mode, "tcx" if mode == "tc" else "xdp", (), self.program.id)

    def swap(self, link: Link) -> None:
        """Have the program in the place of the one before, unless ``link`` is one that refuses."""
        self.asked.append(f"{link.name} {self.program.id}")
        if link.name in self.refuses:
            raise self.refusal(f"interface {link.name}: no {self.program.id}")

    def detach(self, _link: Link, *, wait: bool = True) -> bool:
        """Detach."""
        self.asked.append("off" if wait else "off later")
        return True

    def left(self, _link: Link) -> Mode | None:
        """Return the mode of what the previous daemon has left."""
        return self._left

    def standing(self, link: Link) -> Standing | None:
        """Return what the interface carries."""
        return Standing(link.program.mode, "xdp", (), link.program.id) if link.program else None


def modes(kernel: Kernel, direction: Direction = "ingress") -> Modes:
    """Return the modes that this kernel obtains."""
    attacher = cast("Attacher", kernel)
    return Modes(direction, {"native": attacher, "generic": attacher, "tc": attacher}, structlog.get_logger())


def carrying(mode: Mode) -> Link:
    """Return eth0 with the program on it."""
    return replace(ETH0, program=Program(mode, 7))


@pytest.mark.parametrize(
    ("link", "direction", "wanted", "expected"),
    [
        (ETH0, "ingress", "auto", ("native", "tc")),
        (VETH, "ingress", "auto", ("tc",)),
        (replace(VETH, kind="tun"), "ingress", "auto", ("tc",)),
        (WIREGUARD, "ingress", "auto", ("tc",)),
        (VETH, "ingress", "native", ("native",)),
        (VETH, "ingress", "generic", ("generic",)),
        (ETH0, "ingress", "tc", ("tc",)),
        (ETH0, "egress", "native", ("tc",)),
    ],
)
def test_the_modes_of_an_interface(
    link: Link, direction: Direction, wanted: config.Mode, expected: tuple[str, ...]
) -> None:
    """Mode auto never takes generic XDP, and native XDP only where a frame is one packet; egress is always TC."""
    assert choose(link, direction, wanted).modes == expected


def test_a_mode_that_is_refused_leaves_the_previous_one() -> None:
    """The program goes back to its mode, and the reason is there until another mode is wanted."""
    kernel = Kernel("native")
    kept = modes(kernel)
    assert kept.keep(carrying("generic"), "native").mode == "generic"
    assert kernel.asked == ["off", "native", "generic"]
    assert kept.refusal(2) == "interface eth0: no native"

    assert kept.keep(carrying("generic"), "native").mode == "generic"
    assert kept.keep(ETH0, "native").mode == "generic"
    assert kernel.asked == ["off", "native", "generic", "generic"]

    assert kept.keep(carrying("generic"), "auto").mode == "generic"
    assert kept.refusal(2) is None
    kept.keep(carrying("generic"), "native")
    kept.forget(2)
    assert kept.refusal(2) is None


def test_a_mode_that_is_there_is_left() -> None:
    """Mode auto takes what the program is in; so does the very mode."""
    kernel = Kernel()
    assert [
        modes(kernel).keep(carrying("generic"), "auto").mode,
        modes(kernel).keep(carrying("native"), "native").mode,
    ] == [
        "generic",
        "native",
    ]
    assert kernel.asked == []


def test_native_that_is_refused_becomes_tc() -> None:
    """Mode auto says what the kernel said to native XDP."""
    kernel = Kernel("native")
    there = modes(kernel).keep(ETH0, "auto")
    assert (there.mode, there.hook, there.why) == ("tc", "tcx", "no native")
    assert kernel.asked == ["native", "tc"]


def test_what_stands_above_is_not_counted_below() -> None:
    """Where a bond above has the program, a member gets none at TC either: it would count its packets twice."""
    kernel = Kernel("native")
    kernel.refusal = AboveError
    with pytest.raises(AboveError):
        modes(kernel).keep(ETH0, "auto")
    assert kernel.asked == ["native"]


def test_every_mode_refused_is_one_error() -> None:
    """The error has the kernel's words for each."""
    with pytest.raises(AttachError, match="interface eth0: no native; interface eth0: no tc"):
        modes(Kernel("native", "tc")).keep(ETH0, "auto")


def test_what_is_refused_at_first_is_an_error() -> None:
    """There is no previous mode to go back to."""
    with pytest.raises(AttachError, match="no native"):
        modes(Kernel("native")).keep(ETH0, "native")


def test_a_previous_daemons_program_is_replaced_where_it_is() -> None:
    """Whatever is wanted, the first step is one without a gap; the next look moves it."""
    kernel = Kernel(left="tc")
    assert modes(kernel).keep(ETH0, "native").mode == "tc"
    assert kernel.asked == ["tc"]


def test_a_swap_that_one_interface_refuses_is_undone_on_all() -> None:
    """Those that came before it get their program back, and what is attached later has that one, too."""
    kernel = Kernel("veth0")
    kept = modes(kernel)
    for link in (ETH0, VETH, WIREGUARD):
        kept.keep(link, "tc")
    kernel.asked.clear()
    with pytest.raises(AttachError, match="interface veth0: no 8"):
        kept.swap({kernel.entry: Ours(4, 8)})
    assert kernel.asked == ["eth0 8", "veth0 8", "eth0 7"]
    assert kernel.program.id == 7

    kernel.asked.clear()
    kernel.refuses = ()
    assert [kept.swap({kernel.entry: Ours(4, 8)}) for _ in range(2)] == [True, False]
    assert kernel.asked == ["eth0 8", "veth0 8", "wg0 8"]
