"""Which entry of the configuration means which interface."""

from __future__ import annotations

from cnf.config import Interface
from cnf.interfaces.matching import match, unreadable
from cnf.kernel.links import ARPHRD_ETHER, ARPHRD_LOOPBACK, Link

LO, ETH0, ENS1 = (
    Link(1, "lo", ARPHRD_LOOPBACK, 65536),
    Link(2, "eth0", ARPHRD_ETHER, 1500, altnames=("enp3s0f0np0-a-long-one",)),
    Link(3, "ens1", ARPHRD_ETHER, 1500),
)
ALL = (LO, ETH0, ENS1)


def test_the_first_entry_that_means_an_interface_counts() -> None:
    """A later one says nothing of it, and is not missing for that."""
    first, later, every = Interface("e*", "native"), Interface("ens1", "generic"), Interface("*")
    assert match(ALL, (first, later, every)) == ({2: first, 3: first}, [])
    assert match(ALL, (later, first)).requests == {2: first, 3: later}


def test_the_loopback_interface_has_to_be_named() -> None:
    """No pattern means it."""
    named = Interface("lo")
    assert match(ALL, (Interface("*"), named)).requests[1] is named
    assert match(ALL, (Interface("l*"),)) == ({}, [Interface("l*")])


def test_an_entry_that_means_nothing_is_missing() -> None:
    """An altname means its interface; a name that nobody has is waited for."""
    altname, nobody = Interface("enp3s0f0np0-a-long-one"), Interface("eth9")
    assert match(ALL, (nobody, altname)) == ({2: altname}, [nobody])


def test_frames_without_an_ethernet_header_cannot_be_read() -> None:
    """A tunnel's packets can be at TC, where they are IP; what is neither can not; the loopback interface's can."""
    tunnel = Link(4, "tun0", 65534, 1500)
    assert unreadable(tunnel, "native") == "its frames have no Ethernet header (ARP type 65534)"
    assert unreadable(Link(4, "can0", 280, 16), "tc") == "its frames have no Ethernet header (ARP type 280)"
    assert [unreadable(tunnel, "tc"), unreadable(LO, "native"), unreadable(ETH0, "tc")] == [None, None, None]
