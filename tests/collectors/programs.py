"""The collectors that operators run, as processes in a namespace; deploy/setup.sh --dev has unpacked them."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.namespaces import Namespace
from tests.net.wait import wait_for

FOLDER: Final = Path(sys.executable).parents[1] / "collectors"
PATHS: Final = [str(FOLDER / each) for each in ("usr/bin", "usr/sbin")]
ENVIRONMENT: Final = os.environ | {
    "PATH": os.pathsep.join([*PATHS, os.environ["PATH"]]),
    "LD_LIBRARY_PATH": os.pathsep.join(map(str, FOLDER.glob("usr/lib/*-linux-gnu"))),
}
PORT: Final = 4739
RECEIVE_BUFFER: Final = 212_992
"""net.core.rmem_default of Linux: what a collector has that asks for nothing."""
OWN_TURN: Final = ("chrt", "--fifo", "10")
"""Runs a collector as soon as it has something to read: on two busy cores it would wait for longer than it buffers."""


def lacking() -> str:
    """Return why no collector can be run here; "" if they can."""
    return "" if (FOLDER / "usr/bin/nfcapd").exists() else "collectors are not unpacked (sh deploy/setup.sh --dev)"


def output(*command: str) -> str:
    """Run a program of the collectors and return what it prints."""
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Collector:
    """A collector that runs until ``stop()``."""

    STOP: ClassVar[Signals] = SIGTERM

    def __init__(self, namespace: Namespace, folder: Path, *command: str) -> None:
        """Start ``command`` in ``namespace``, with its log in ``folder``."""
        folder.mkdir()
        self.folder = folder
        self._log = folder.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                (*namespace.enter, *OWN_TURN, *command), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=ENVIRONMENT,
            )  # fmt: skip

    def __enter__(self) -> Self:
        """Go on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self.stop()

    def wait_for(self, *words: str) -> None:
        """Wait until its log has these words."""
        wait_for(lambda: all(word in self.log() for word in words), f"{words} of the collector")

    def log(self) -> str:
        """Return what it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End it; it writes down what it has."""
        if self._process.poll() is None:
            self._process.send_signal(self.STOP)
            try:
                self._process.wait(20)
            finally:
                self._process.kill()


class Totals(NamedTuple):
    """What nfdump's file says of itself."""

    flows: int
    packets: int
    bytes: int
    sequence_failures: int


class Nfcapd(Collector):
    """The collector of nfdump, as it is without options."""

    def __init__(self, namespace: Namespace, folder: Path, address: str) -> None:
        """Listen on ``address``."""
        command = ("nfcapd", "-w", str(folder), "-p", str(PORT), "-b", address, "-t", "3600", "-I", "test")
        super().__init__(namespace, folder, *command)
        self.wait_for("Startup nfcapd")

    def stop(self) -> None:
        """End it, once it has read what has come."""
        if self._process.poll() is None:
            wait_for(lambda: self._unread() == 0, "nfcapd to have read all")
        super().stop()

    def _unread(self) -> int:
        """Return the bytes that its socket holds, as proc(5) has them."""
        sockets = Path(f"/proc/{self._process.pid}/net/udp").read_text(encoding="ascii").splitlines()[1:]
        (queues,) = (line.split()[4] for line in sockets if line.split()[1].endswith(f":{PORT:04X}"))
        return int(queues.partition(":")[2], 16)

    def totals(self) -> Totals:
        """Return the sums of all that it has written down, at its end."""
        shown = output("nfdump", "-R", str(self.folder), "-I")
        numbers = dict(re.findall(r"^(Flows|Packets|Bytes|Sequence failures): (\d+)$", shown, re.MULTILINE))
        return Totals(*map(int, numbers.values()))

    def records(self, *expression: str) -> list[dict[str, Any]]:
        """Return what nfdump prints, at its end."""
        shown = output("nfdump", "-q", "-R", str(self.folder), "-o", "json", *expression)
        return [json.loads(each) for each in re.findall(r"\{[^}]*\}", shown)]


class Nfacctd(Collector):
    """The collector of pmacct, which prints each record as a line of JSON."""

    STOP: ClassVar[Signals] = SIGINT

    def __init__(self, namespace: Namespace, folder: Path, address: str) -> None:
        """Listen on ``address``."""
        folder.parent.joinpath("nfacctd.conf").write_text(
            f"""
            nfacctd_ip: {address}
            nfacctd_port: {PORT}
            nfacctd_time_new: true
            plugins: print
            aggregate: src_host,dst_host,src_port,dst_port,proto,tcpflags,in_iface,timestamp_start,timestamp_end
            print_output: json
            print_output_file: {folder}/records
            print_output_file_append: true
            print_refresh_time: 1
            """.replace("            ", ""),
            encoding="utf-8",
        )
        super().__init__(namespace, folder, "nfacctd", "-f", str(folder.parent / "nfacctd.conf"))
        self.wait_for("waiting for")

    def records(self, packets: int) -> list[dict[str, Any]]:
        """Wait for records of so many packets, and return all."""

        def read() -> list[dict[str, Any]]:
            file = self.folder / "records"
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            records = [json.loads(line) for line in lines if line.endswith("}")]
            return records if sum(each["packets"] for each in records) >= packets else []

        return wait_for(read, f"{packets} packets in nfacctd's file")


def write_capture(file: Path, messages: Iterable[bytes]) -> None:
    """Write messages to a file as a capture of Ethernet has them (pcap-savefile(5))."""
    written = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for message in messages:
        octets = frame(IPv4(), UDP(dst_port=PORT), message)
        written += struct.pack("<IIII", 0, 0, len(octets), len(octets)) + octets
    file.write_bytes(written)


def dissected(file: Path, *arguments: str) -> str:
    """Return what tshark prints of a capture."""
    return output("tshark", "-r", str(file), "-d", f"udp.port=={PORT},cflow", *arguments)
