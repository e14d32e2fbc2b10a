"""Building in a child process (``Build``), and the loaded datapath: its maps and programs.

Light to import: the child is started before numpy, pyroute2 and the rest of the daemon are loaded.
"""

from __future__ import annotations

import ctypes
import errno
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
from typing import IO, Final

from cnf.datapath.blueprint import CLOCK, SECRETS, Blueprint
from cnf.errors import (
    CnfError,
    CompileError,
    KernelError,
    UnavailableError,
    VerifierError,
)
from cnf.kernel import capabilities, libbpf
from cnf.kernel.refusal import reported

BCC_REMEDY: Final = "install the distribution's package: python3-bpfcc on Debian and Ubuntu, python3-bcc on Fedora"
MEMORY_REMEDY: Final = "cnfctl doctor says what a start takes, and how much there may be; lower flows.max_entries"
LOG_LIMIT: Final = 1 << 20
CLOCK_FRAME: Final = bytes(64)


@dataclass(frozen=True, slots=True)
class Datapath:
    """A loaded program and its maps, by descriptor. Owns them: close it once."""

    blueprint: Blueprint
    bcc_version: str
    maps: dict[str, int]
    programs: dict[str, int]
    program_id: int
    kept: frozenset[str]
    """Names of the maps that are the previous daemon's, with what they hold: all, all but the limiter's, or none."""
    discarded: tuple[str, ...]
    """The reasons why maps that were pinned are not kept."""

    def read_clock(self) -> tuple[int, int]:
        """Return (jiffies, CLOCK_MONOTONIC in ns) of one moment. Raises KernelError."""
        before = time.monotonic_ns()
        with reported(f"reading the clock by a test run of {CLOCK}"):
            _verdict, frame, _duration = libbpf.run(self.programs[CLOCK], CLOCK_FRAME, 1)
        return int.from_bytes(frame[:8], sys.byteorder), (before + time.monotonic_ns()) // 2

    def close(self) -> None:
        """Close every descriptor; what is attached to an interface stays there."""
        for fd in (*self.maps.values(), *self.programs.values()):
            os.close(fd)


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
            raise capabilities.lacking(missing)
        self._blueprint = blueprint
        request = {
            "source": str(blueprint.source),
            "defines": blueprint.defines
            | blueprint.entry_points
            | {"CNF_PERFMON": int(not capabilities.missing(capabilities.SPEED))},
            "maps": blueprint.maps,
            "limiter_maps": blueprint.limiter_maps,
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
        """End the child and close everything; harmless after ``finish()``."""
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
            raise KernelError(
                "too many open files: no room for the descriptors of the maps", remedy="raise LimitNOFILE="
            )
        by_name = dict(zip(maps, fds, strict=False))
        with reported("looking at the program that was loaded"):
            if SECRETS in by_name:
                _draw_secrets(by_name[SECRETS])
            program_id = libbpf.program_id(fds[len(maps)])
        return Datapath(
            blueprint=self._blueprint,
            bcc_version=answer["bcc_version"],
            kept=frozenset(answer["kept"]),
            discarded=tuple(answer["discarded"]),
            maps=by_name,
            programs=dict(zip(programs, fds[len(maps) :], strict=True)),
            program_id=program_id,
        )


def load(blueprint: Blueprint) -> Datapath:
    """Build a blueprint, and wait for it."""
    return Build(blueprint).finish()


def _draw_secrets(fd: int) -> None:
    """Draw the secrets that the caches hash with, unless they have been: kept maps hold their keys by them."""
    with reported(f"drawing the secrets of map {SECRETS}"):
        zero, words = ctypes.c_uint32(), ctypes.create_string_buffer(libbpf.map_info(fd).value_size)
        libbpf.check(libbpf.library().bpf_map_lookup_elem(fd, ctypes.byref(zero), words))
        if not any(words.raw):
            words.raw = os.urandom(len(words))
            libbpf.check(libbpf.library().bpf_map_update_elem(fd, ctypes.byref(zero), words, 0))


def _died(status: int, log: str) -> CnfError:
    lines = log.strip().splitlines() or ["no output"]
    message = f"the compiling process ended with status {status}: {lines[-1]}"
    if status == -signal.SIGKILL:
        return KernelError(message, remedy=f"killed, perhaps for lack of memory: {MEMORY_REMEDY}", details=log)
    return UnavailableError(message, remedy="the last line that it wrote is quoted", details=log)


def _bcc_missing(message: str, log: str) -> CnfError:
    return UnavailableError(f"BCC is missing: {message}", remedy=BCC_REMEDY, details=log)


def _bcc_wrong(message: str, log: str) -> CnfError:
    text = f"the module bcc at {message} is not BCC but PyPI's package of that name"
    return UnavailableError(text, remedy=f"pip uninstall bcc; {BCC_REMEDY}", details=log)


def _compile_failed(message: str, log: str) -> CnfError:
    lines = [line for line in log.splitlines() if "error:" in line]
    line = lines[0] if lines else message
    omitted = f"{max(len(log.splitlines()) - 1, 0)} lines omitted; log level debug shows them"
    if line.startswith("could not open bpf map"):
        remedy = "raise LimitNOFILE=" if os.strerror(errno.EMFILE) in line else MEMORY_REMEDY
        return KernelError(f"the kernel made no map: {line}", remedy=remedy, details=log)
    return CompileError(f"flow.c did not compile: {line}", remedy=omitted, details=log)


def _load_failed(message: str, log: str) -> CnfError:
    lines = [
        line for line in log.splitlines() if line.strip() and not line.startswith(("processed ", "libbpf:", "HINT"))
    ]
    last = lines[-1] if lines else "no log"
    cause = f"{capabilities.refused()}; " if capabilities.missing(capabilities.SPEED) else ""
    omitted = f"{cause}{max(len(lines) - 1, 0)} lines omitted; log level debug shows them"
    return VerifierError(f"the kernel rejected the program: {message}: {last}", remedy=omitted, details=log)


_FAILURES: Final[dict[str, Callable[[str, str], CnfError]]] = {
    "bcc_missing": _bcc_missing,
    "bcc_wrong": _bcc_wrong,
    "compile": _compile_failed,
    "load": _load_failed,
}
