"""A mode that the kernel refuses is asked for once."""

from __future__ import annotations

from typing import cast

import pytest
import structlog

from cnf.errors import AttachError
from cnf.interfaces.modes import Modes
from cnf.kernel.links import ARPHRD_ETHER, Link, Mode
from cnf.kernel.xdp import Attached, Attacher

ETH0 = Link(2, "eth0", ARPHRD_ETHER, 1500)


class Kernel:
    """A kernel that refuses modes."""

    program_id = 7

    def __init__(self, *refuses: str) -> None:
        """Refuse these."""
        self.refuses = refuses
        self.asked: list[str] = []

    def attach(self, link: Link, mode: Mode) -> Attached:
        """Attach, unless it is to refuse."""
        self.asked.append(mode)
        if mode in self.refuses:
            raise AttachError(f"interface {link.name}: no {mode}")
        return Attached("native" if mode == "native" else "generic", "")

    def detach(self, _link: Link) -> bool:
        """Detach."""
        self.asked.append("off")
        return True


def modes(kernel: Kernel) -> Modes:
    """Return the modes that this kernel obtains."""
    return Modes(cast("Attacher", kernel), structlog.get_logger())


def test_a_mode_that_is_refused_leaves_the_previous_one() -> None:
    """The program goes back to its mode, and the reason is there until another mode is wanted."""
    kernel = Kernel("native")
    kept = modes(kernel)
    assert kept.move(ETH0, "generic", "native") == "generic"
    assert kernel.asked == ["off", "native", "generic"]
    assert kept.refusal(2) == "interface eth0: no native"

    assert kept.move(ETH0, "generic", "native") == "generic"
    assert kept.put_on(ETH0, "native") == "generic"
    assert kernel.asked == ["off", "native", "generic", "generic"]

    assert kept.move(ETH0, "generic", "auto") == "generic"
    assert kept.refusal(2) is None
    kept.move(ETH0, "generic", "native")
    kept.forget(2)
    assert kept.refusal(2) is None


def test_a_mode_that_is_there_is_left() -> None:
    """Mode auto takes what the program is in; so does the very mode."""
    kernel = Kernel()
    assert (modes(kernel).move(ETH0, "generic", "auto"), modes(kernel).move(ETH0, "native", "native")) == (
        "generic",
        "native",
    )
    assert kernel.asked == []


def test_what_is_refused_at_first_is_an_error() -> None:
    """There is no previous mode to go back to."""
    with pytest.raises(AttachError, match="no native"):
        modes(Kernel("native")).put_on(ETH0, "native")
