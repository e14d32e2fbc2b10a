"""The loaded datapath: what to build (``Blueprint``), its building in a child (``Build``), and its maps and programs.

Light to import: the child is started before numpy, pyroute2 and the rest of the daemon are loaded.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from cnf.config import MAX_INTERFACES, Settings
from cnf.errors import (
    CnfError,
    CompileError,
    KernelError,
    PrivilegeError,
    UnavailableError,
    VerifierError,
)
from cnf.kernel import capabilities, libbpf
from cnf.kernel.refusal import reported
from cnf.limits.table import room

Table = Literal["cache", "lru_hash"]
"""What the tables of flows and sources are made of."""

SOURCE: Final = Path(__file__).parent.parent / "bpf" / "flow.c"
PROGRAMS: Final = ("cnf_ingress", "cnf_clock")
SECRETS: Final = "cache_secrets"
CACHE_MAPS: Final = (SECRETS, "flow_settings")
LIMITER_MAPS: Final = (
    "limit_generation",
    "limit_settings",
    "limit_groups",
    "limit_policies",
    "limit_rules",
    "limit_shared",
    "limit_counters",
)
BCC_REMEDY: Final = "install the distribution's package: python3-bpfcc on Debian and Ubuntu, python3-bcc on Fedora"
MEMORY_REMEDY: Final = "cnfctl doctor says what a start takes, and how much there may be; lower flows.max_entries"
LOG_LIMIT: Final = 1 << 20
CLOCK_FRAME: Final = bytes(64)
RING_BYTES: Final = 256 << 10
"""Of the ring of events: 2,047 of them."""
EVICTED_RING_BYTES: Final = 16 << 20
"""The same where evicted flows are events, too: 131,071 of them."""
PLACES_AN_INTERFACE: Final = 16
"""Of the array that finds interfaces: of 1,000 with numbers at random, 30 are not found there at first sight."""
CLOCK_MONOTONIC_COARSE: Final = 6  # linux/time.h; Python's time module does not name it


@dataclass(frozen=True, slots=True)
class LimiterSize:
    """What the limiter's tables can hold: sources a family; rules, a power of two; prefixes a family and rule set."""

    sources: int
    rules: int
    prefixes: int


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What to build: the source, and what of it is compiled in."""

    max_entries: int
    table: Table = "cache"
    ipv6: bool = True
    vlan: bool = True
    limiter: LimiterSize | None = None
    evicted_records: bool = False
    max_interfaces: int = MAX_INTERFACES
    source: Path = SOURCE
    programs: tuple[str, ...] = PROGRAMS

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps that the program will have."""
        families = ("4", "6") if self.ipv6 else ("4",)
        names = [f"flows{family}" for family in families]
        if self.table == "cache":
            names += [f"flow_drops{family}" for family in families if self.limiter]
            names += CACHE_MAPS
        if self.limiter:
            nouns = ("prefixes", "sources", "over") if self.table == "cache" else ("prefixes", "sources")
            names += [f"limit_{noun}{family}" for noun in nouns for family in ("4", "6")]
            names += LIMITER_MAPS
        if self.ring_bytes:
            names += ["events", "events_lost"]
        return (*names, "table_counters", "interfaces", "interfaces_direct", "interface_counters", "daemon_memory")

    @property
    def ring_bytes(self) -> int:
        """Return the size of the ring of events; 0 where there is nothing to tell."""
        if self.evicted_records:
            return EVICTED_RING_BYTES
        return RING_BYTES if self.limiter else 0

    @property
    def defines(self) -> dict[str, int]:
        """Return the preprocessor's definitions."""
        defines = {"CNF_CACHE": int(self.table == "cache"), "CNF_MAX_ENTRIES": self.max_entries}
        defines |= {"CNF_MAX_INTERFACES": self.max_interfaces}
        defines |= {"CNF_INTERFACE_PLACES": 1 << (PLACES_AN_INTERFACE * self.max_interfaces - 1).bit_length()}
        defines |= {"CNF_IPV6": int(self.ipv6), "CNF_VLAN": int(self.vlan)}
        defines |= {"CNF_EVICTED_RECORDS": int(self.evicted_records), "CNF_RING_BYTES": self.ring_bytes}
        if self.limiter is None:
            return defines | {"CNF_LIMITER": 0}
        return defines | {
            "CNF_LIMITER": 1,
            "CNF_MAX_SOURCES": self.limiter.sources,
            "CNF_MAX_RULES": self.limiter.rules,
            "CNF_MAX_POLICIES": self.limiter.rules,
            "CNF_MAX_PREFIXES": self.limiter.prefixes,
        }

    @property
    def layout(self) -> str:
        """Return a name for how the maps are laid out: a hash of abi.h and of the definitions."""
        abi = self.source.with_name("abi.h").read_bytes()
        return hashlib.sha256(abi + json.dumps(self.defines, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Datapath:
    """A loaded program and its maps, by descriptor. Owns them: close it once."""

    blueprint: Blueprint
    bcc_version: str
    maps: dict[str, int]
    programs: dict[str, int]
    program_id: int
    kept: bool
    """The maps are those of the daemon before, with all that they hold."""
    given_up: tuple[str, ...]
    """Why maps that were there were not kept."""

    def read_clock(self) -> tuple[int, int]:
        """Return (jiffies, CLOCK_MONOTONIC in ns), read as one. Raises KernelError."""
        before = time.monotonic_ns()
        with reported("reading the clock by a test run of cnf_clock"):
            _verdict, frame, _duration = libbpf.run(self.programs["cnf_clock"], CLOCK_FRAME, 1)
        return int.from_bytes(frame[:8], sys.byteorder), (before + time.monotonic_ns()) // 2

    def close(self) -> None:
        """Close every descriptor; what is attached to an interface stays there."""
        for fd in (*self.maps.values(), *self.programs.values()):
            os.close(fd)


def tick_ns() -> int:
    """Return the length of a jiffy, TICK_NSEC of linux/jiffies.h: it is what the coarse clocks' resolution is."""
    return round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)


class Build:
    """The child at work. ``fileno()`` is readable when it has answered or died; then call ``finish()``."""

    def __init__(self, blueprint: Blueprint, pins: Path | None = None, *, python: str = sys.executable) -> None:
        """Start the child; the maps are those that are pinned in the folder ``pins``, or are made and pinned there.

        Raises:
            PrivilegeError: a capability that loading or attaching needs is missing.
            KernelError: no process can be started.

        """
        missing = capabilities.missing()
        if missing:
            raise PrivilegeError(capabilities.explain(missing))
        self._blueprint = blueprint
        request = {
            "source": str(blueprint.source),
            "defines": blueprint.defines | {"CNF_PERFMON": int(not capabilities.missing(capabilities.SPEED))},
            "maps": blueprint.maps,
            "programs": blueprint.programs,
            "pins": str(pins) if pins else None,
        }
        with reported("starting the compiling process"), ExitStack() as stack:
            self._log: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket = stack.enter_context(ours)
            with theirs:
                self._child = subprocess.Popen(
                    [python, "-P", "-m", "cnf.datapath.compile", json.dumps(request)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                )
            stack.pop_all()  # closed by cancel()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def cancel(self) -> None:
        """End the child and let everything go; harmless after ``finish()``."""
        self._child.kill()
        self._child.wait()
        self._socket.close()
        self._log.close()

    def finish(self) -> Datapath:
        """Wait for the answer and take over the descriptors.

        Raises:
            UnavailableError: BCC is missing, is another package, or its process died.
            CompileError, VerifierError, KernelError: with the log in ``details``.

        """
        maps, programs = self._blueprint.maps, self._blueprint.programs
        try:
            with reported("taking the program over from the compiling process"):
                message, fds, _flags, _address = socket.recv_fds(
                    self._socket, LOG_LIMIT, len(maps) + len(programs), socket.MSG_CMSG_CLOEXEC
                )
                self._child.wait()
                self._log.seek(0)
                log = self._log.read(LOG_LIMIT).decode(errors="backslashreplace")
        finally:
            self.cancel()
        if not message:
            raise _died(self._child.returncode, log)
        answer = json.loads(message)
        if "error" in answer:
            raise _FAILURES[answer["error"]](answer["message"], log)
        if len(fds) < len(maps) + len(programs):  # the kernel hands over as many as there is room for
            for fd in fds:
                os.close(fd)
            raise KernelError("too many open files: no room for the descriptors of the maps (raise LimitNOFILE=)")
        by_name = dict(zip(maps, fds, strict=False))
        with reported("looking at the program that was loaded"):
            if SECRETS in by_name:
                _draw_secrets(by_name[SECRETS])
            program_id = libbpf.program_id(fds[len(maps)])
        return Datapath(
            blueprint=self._blueprint,
            bcc_version=answer["bcc_version"],
            kept=answer["kept"],
            given_up=tuple(answer["given_up"]),
            maps=by_name,
            programs=dict(zip(programs, fds[len(maps) :], strict=True)),
            program_id=program_id,
        )


def plan(settings: Settings) -> Blueprint:
    """Return what to build for these settings."""
    flows, limits = settings.flows, settings.limits
    table = table_to_be_had(flows.table)
    return Blueprint(
        flows.max_entries,
        table,
        ipv6=flows.ipv6,
        vlan=flows.vlan,
        limiter=LimiterSize(limits.max_sources, *room(limits)) if limits else None,
        evicted_records=flows.evicted_records and table == "cache",
        max_interfaces=settings.max_interfaces,
    )


def table_to_be_had(wanted: Table) -> Table:
    """Return what the tables can be of: without CAP_PERFMON, the verifier follows a cache in too many ways."""
    return "lru_hash" if capabilities.missing(capabilities.SPEED) else wanted


def load(blueprint: Blueprint) -> Datapath:
    """Build and wait."""
    return Build(blueprint).finish()


def _draw_secrets(fd: int) -> None:
    """Fill the words of ``struct cache_secrets``, unless they have been: kept maps have their keys by them."""
    with reported(f"drawing the words of map {SECRETS}"):
        zero, words = ctypes.c_uint32(), ctypes.create_string_buffer(libbpf.map_info(fd).value_size)
        libbpf.check(libbpf.library().bpf_map_lookup_elem(fd, ctypes.byref(zero), words))
        if not any(words.raw):
            words.raw = os.urandom(len(words))
            libbpf.check(libbpf.library().bpf_map_update_elem(fd, ctypes.byref(zero), words, 0))


def _died(status: int, log: str) -> CnfError:
    lines = log.strip().splitlines() or ["no output"]
    message = f"the compiling process ended with status {status}: {lines[-1]}"
    if status == -signal.SIGKILL:
        return KernelError(f"{message} (killed, perhaps for lack of memory: {MEMORY_REMEDY})", details=log)
    return UnavailableError(f"{message} (the last line it wrote is quoted)", details=log)


def _bcc_missing(message: str, log: str) -> CnfError:
    return UnavailableError(f"BCC is missing: {message} ({BCC_REMEDY})", details=log)


def _bcc_wrong(message: str, log: str) -> CnfError:
    text = f"the module bcc at {message} is not BCC but PyPI's package of that name (pip uninstall bcc; {BCC_REMEDY})"
    return UnavailableError(text, details=log)


def _compile_failed(message: str, log: str) -> CnfError:
    lines = [line for line in log.splitlines() if "error:" in line]
    line = lines[0] if lines else message
    omitted = f"({max(len(log.splitlines()) - 1, 0)} lines omitted; log level debug shows them)"
    if line.startswith("could not open bpf map"):
        remedy = "raise LimitNOFILE=" if os.strerror(errno.EMFILE) in line else MEMORY_REMEDY
        return KernelError(f"the kernel made no map: {line} ({remedy})", details=log)
    return CompileError(f"flow.c did not compile: {line} {omitted}", details=log)


def _load_failed(message: str, log: str) -> CnfError:
    lines = [
        line for line in log.splitlines() if line.strip() and not line.startswith(("processed ", "libbpf:", "HINT"))
    ]
    last = lines[-1] if lines else "no log"
    cause = f"{capabilities.refused()}; " if capabilities.missing(capabilities.SPEED) else ""
    omitted = f"({cause}{max(len(lines) - 1, 0)} lines omitted; log level debug shows them)"
    return VerifierError(f"the kernel rejected the program: {message}: {last} {omitted}", details=log)


_FAILURES: Final[dict[str, Callable[[str, str], CnfError]]] = {
    "bcc_missing": _bcc_missing,
    "bcc_wrong": _bcc_wrong,
    "compile": _compile_failed,
    "load": _load_failed,
}
