"""A program of the datapath on an interface, without a daemon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from pyroute2 import IPRoute

from cnf.datapath import build
from cnf.datapath.blueprint import Blueprint
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP, Hook
from tests.bpf.conftest import Datapath
from tests.net.namespaces import Namespace

FLOWS: Final = 4096
NATIVE: Final = 4  # XDP_FLAGS_DRV_MODE of linux/if_link.h
CLSACT: Final = 0xFFFF0000
PARENTS: Final = {TC_INGRESS: CLSACT + 0xFFF2, TC_EGRESS: CLSACT + 0xFFF3}


@contextmanager
def attached(namespace: Namespace, name: str, hook: Hook, *, ethernet: bool = True) -> Iterator[Datapath]:
    """Load a program and put it on an interface, which takes it along when it goes; by XDP in native mode."""
    with closing(build.load(Blueprint(FLOWS, hooks=(hook,)))) as loaded:
        datapath = Datapath(loaded, hook)
        program = loaded.programs[hook.entry]
        with namespace.entered(), IPRoute() as netlink:
            datapath.ifindex = socket.if_nametoindex(name)
            datapath.interfaces.assign(datapath.ifindex, ethernet=ethernet)
            if hook == XDP:
                attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", NATIVE)]
                netlink.link("set", index=datapath.ifindex, xdp={"attrs": attributes})
            else:
                netlink.tc("replace", "clsact", datapath.ifindex)
                netlink.tc(
                    "add-filter",
                    "bpf",
                    datapath.ifindex,
                    1,
                    fd=program,
                    name=hook.entry,
                    parent=PARENTS[hook],
                    direct_action=True,
                    prio=1,
                )
        yield datapath
