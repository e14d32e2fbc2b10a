"""Network namespaces in which nothing is sent that a test does not send, and pairs of interfaces between them."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from cnf.kernel import pins
from tests.net.wait import wait_for

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
RING: Final = 256  # frames that wait between a veth pair's ends (VETH_RING_SIZE of drivers/net/veth.c); more are lost

_numbers: Final = itertools.count()
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace with its loopback interface up, and IPv6 off so that the kernel announces nothing."""

    def __init__(self) -> None:
        """Choose a name that tells whose it is."""
        self.name = f"cnf-t-{os.getpid()}-{next(_numbers)}"
        self.path = Path("/run/netns", self.name)

    def __enter__(self) -> Self:
        """Make it."""
        run("ip", "netns", "add", self.name)
        with self.entered():
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away, with its interfaces."""
        run("ip", "netns", "del", self.name)

    @property
    def pins(self) -> Path:
        """The folder in bpffs where a daemon in here has its pins."""
        return pins.BPFFS / "cnf" / f"netns-{self.path.stat().st_ino}"

    @property
    def enter(self) -> tuple[str, ...]:
        """The command that runs another one in here; unlike ``ip netns exec`` it leaves /sys alone."""
        return ("nsenter", f"--net={self.path}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread in here: the sockets that it opens stay here."""
        with Path("/proc/thread-self/ns/net").open("rb") as home, self.path.open("rb") as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket of this namespace."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def ip(self, *arguments: str | bytes) -> None:
        """Run ``ip`` in here."""
        run("ip", "-netns", self.name, *arguments)

    def links(self) -> dict[str, dict[str, Any]]:
        """Return what ``ip -s link`` shows, by interface name; bytes that are no text get backslashes."""
        shown = run("ip", "-netns", self.name, "-json", "-stats", "link", "show").decode(errors="backslashreplace")
        return {link["ifname"]: link for link in json.loads(shown)}

    def programs(self) -> dict[str, int]:
        """Return the ids of the XDP programs, by interface name."""
        return {name: link["xdp"]["prog"]["id"] for name, link in self.links().items() if "xdp" in link}


class Wire:
    """A veth pair: ``name`` in the namespace ``near``, ``far_name`` in ``far``."""

    def __init__(self, near: Namespace, far: Namespace, name: str | bytes, far_name: str, mtu: int = 1500) -> None:
        """Make it, with both ends up."""
        self.near, self.far, self.name, self.far_name = near, far, name, far_name
        near.ip("link", "add", name, "mtu", f"{mtu}", "type", "veth", "peer", far_name, "netns", far.name)
        far.ip("link", "set", far_name, "mtu", f"{mtu}", "up")
        near.ip("link", "set", name, "up")

    def send(self, frames: Iterable[bytes]) -> None:
        """Send ``frames`` from the far end as they are, never so many at once that the near end loses some."""
        # Until the kernel has taken note of the carrier, it drops without a word.
        wait_for(lambda: self.far.links()[self.far_name]["operstate"] == "UP", f"{self.far_name} to be up")
        with (
            self.far.entered(),
            Path("/proc/thread-self/net/dev").open(encoding="ascii") as devices,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw,
        ):
            raw.bind((self.far_name, 0))
            before = _transmitted(devices, self.far_name)
            sent = 0
            for sent, frame in enumerate(frames, start=1):
                raw.send(frame)
                if sent % (RING // 2) == 0:
                    self._taken(devices, before + sent)
            self._taken(devices, before + sent)

    def sent(self) -> tuple[int, int]:
        """Return the packets and bytes that the far end's driver has handed over."""
        statistics = self.far.links()[self.far_name]["stats64"]["tx"]
        return statistics["packets"], statistics["bytes"]

    def delete(self) -> None:
        """Take both ends away."""
        self.near.ip("link", "del", self.name)

    def _taken(self, devices: TextIO, count: int) -> None:
        wait_for(lambda: _transmitted(devices, self.far_name) >= count, f"{self.far_name} to hand over {count} frames")


def run(*command: str | bytes) -> bytes:
    """Run ``command`` and return what it prints."""
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='backslashreplace')}"
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _transmitted(devices: TextIO, name: str) -> int:
    """Return the frames that ``name`` has handed over, from /proc/net/dev."""
    devices.seek(0)
    (line,) = (line for line in devices if line.strip().startswith(f"{name}:"))
    return int(line.partition(":")[2].split()[9])
