"""The compiling child, from the outside: what it is asked, and what becomes of its failures."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from cnf.datapath.load import MEMORY_REMEDY, remedy_of
from cnf.datapath.program import Program
from cnf.errors import CnfError, CompileError, KernelError, UnavailableError
from cnf.kernel.refusal import reported

BCC_REMEDY: Final = "install the distribution's package: python3-bpfcc on Debian and Ubuntu, python3-bcc on Fedora"
LOG_LIMIT: Final = 1 << 20
FLAGS: Final = ("-Wall", "-Wno-unused-function", "-Xclang", "-disable-llvm-passes", "-g0")
"""BCC optimizes by itself: clang's own passes, and debug information, would make it take up to twice as long."""


class Compiler:
    """The child, which may be ended from another thread than the one that waits for it."""

    def __init__(self, python: str = sys.executable) -> None:
        """Prepare to start this Python."""
        self._python = python
        self._child: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """End the child that there is, or have none be started."""
        with self._lock:
            self._cancelled = True
            if self._child:
                self._child.kill()

    @contextmanager
    def compile(self, request: Mapping[str, Any]) -> Iterator[tuple[Program, dict[str, int]]]:
        """Have BCC do what ``request`` says (see compile.py); give the program, and the maps that BCC has made.

        The descriptors of these are closed at the end of the block.

        Raises:
            UnavailableError: BCC is missing, is another package, or its process died.
            CompileError, KernelError: with the log in ``details``.

        """
        with reported("compiling"):
            answer, descriptors = self._ask(request)
        try:
            maps = request["maps"]
            if len(descriptors) < len(maps):  # the kernel hands over as many as there is room for
                message = "too many open files: no room for the descriptors of the maps"
                raise KernelError(message, remedy="raise LimitNOFILE=")
            yield Program.of_json(answer), dict(zip(maps, descriptors, strict=True))
        finally:
            for fd in descriptors:
                os.close(fd)

    def _ask(self, request: Mapping[str, Any]) -> tuple[str, list[int]]:
        """Return the program as JSON, and the maps' descriptors. Raises CnfError."""
        ours, theirs = socket.socketpair()
        with ours, tempfile.TemporaryFile() as log_file:
            with theirs, self._lock:
                if self._cancelled:
                    raise UnavailableError("compiling was cancelled")
                self._child = subprocess.Popen(
                    [self._python, "-P", "-m", "cnf.datapath.compile"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=log_file,
                )
            descriptors: list[int] = []
            try:
                message, descriptors = _exchange(ours, json.dumps(request).encode() + b"\n", len(request["maps"]))
                self._child.wait()
                log_file.seek(0)
                log = log_file.read(LOG_LIMIT).decode(errors="backslashreplace")
                if not message:
                    raise _died(self._child.returncode, log)
                answer = json.loads(message)
                if "error" in answer:
                    raise _FAILURES[answer["error"]](answer["message"], log)
            except BaseException:
                for fd in descriptors:
                    os.close(fd)
                self._child.kill()
                self._child.wait()
                raise
        return str(answer["program"]), descriptors


def _exchange(stream: socket.socket, request: bytes, descriptors: int) -> tuple[bytes, list[int]]:
    """Send a request, and return all that is answered; nothing if the other side dies."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.sendall(request)
    message, fds = b"", list[int]()
    with suppress(ConnectionResetError):  # it ended without having read all
        message, fds, _flags, _address = socket.recv_fds(stream, 1 << 16, descriptors, socket.MSG_CMSG_CLOEXEC)
        while block := stream.recv(1 << 20):
            message += block
    return message, fds


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
        return KernelError(f"the kernel made no map: {line}", remedy=remedy_of(line), details=log)
    return CompileError(f"flow.c did not compile: {line}", remedy=omitted, details=log)


_FAILURES: Final[dict[str, Callable[[str, str], CnfError]]] = {
    "bcc_missing": _bcc_missing,
    "bcc_wrong": _bcc_wrong,
    "compile": _compile_failed,
}
