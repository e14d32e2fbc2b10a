"""Building: a program that is kept in a file, or compiled by a child, is loaded (``Build``); and what that gives.

Light to import: a build is started before numpy, pyroute2 and the rest of the daemon are loaded.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cnf.datapath import bcc_files, program_file
from cnf.datapath.blueprint import CAPTURES, CLOCK, SECRETS, Blueprint
from cnf.datapath.compiler import FLAGS, Compiler
from cnf.datapath.load import Loaded
from cnf.datapath.load import load as load_program
from cnf.datapath.program import Program
from cnf.datapath.program_file import UnusableError
from cnf.datapath.source import flatten, headers
from cnf.errors import CompileError, VerifierError
from cnf.kernel import capabilities, libbpf
from cnf.kernel.refusal import reported
from cnf.process.light_imports import sha256

FORMAT: Final = 2
"""To be raised when programs are made, or kept, in another way."""
CLOCK_FRAME: Final = bytes(64)


@dataclass(frozen=True, slots=True)
class Datapath:
    """A loaded program and its maps, by descriptor. Owns them: close it once."""

    blueprint: Blueprint
    bcc_version: str
    maps: dict[str, int]
    programs: dict[str, int]
    limiting: dict[str, int]
    """The programs of RECEIVING with limits, where ``programs`` has them without."""
    kept: frozenset[str]
    """Names of the maps that are the previous daemon's, with what they hold: all, all but the limiter's, or none."""
    discarded: tuple[str, ...]
    """The reasons why maps that were pinned are not kept."""
    file: Path | None = None
    """The file that the program was kept in; None if it has been compiled."""

    def read_clock(self) -> tuple[int, int]:
        """Return (jiffies, CLOCK_MONOTONIC in ns) of one moment. Raises KernelError."""
        before = time.monotonic_ns()
        with reported(f"reading the clock by a test run of {CLOCK}"):
            _verdict, frame, _duration = libbpf.run(self.programs[CLOCK], CLOCK_FRAME, 1)
        return int.from_bytes(frame[:8], sys.byteorder), (before + time.monotonic_ns()) // 2

    def close(self) -> None:
        """Close every descriptor; what is attached to an interface stays there."""
        for fd in (*self.maps.values(), *self.programs.values(), *self.limiting.values()):
            os.close(fd)


class Build:
    """A build at work. ``fileno()`` is readable when it is done; then call ``finish()``.

    A thread does it, which waits nearly all the time: for the kernel, and where the program is not kept in a file, for
    the child that compiles it.
    """

    def __init__(
        self, blueprint: Blueprint, pins: Path | None = None, *, files: Path | None = None, python: str = sys.executable
    ) -> None:
        """Start it.

        The maps are those that are pinned in the folder ``pins``, or are made and pinned there. The program is the one
        that is kept in the folder ``files``, or is compiled and put there.

        Raises:
            PrivilegeError: a capability that loading or attaching needs is missing.
            KernelError: there is no room for a pair of sockets.

        """
        missing = capabilities.missing()
        if missing:
            raise capabilities.lacking(missing)
        self.not_used = self.not_kept = ""
        """Why the program of a file was not used, or the one that was compiled is not kept: neither ends a build."""
        self._blueprint, self._pins, self._files = blueprint, pins, files
        self._compiler = Compiler(python)
        self._result: Datapath | BaseException | None = None
        with reported("starting to build the program"):
            self._done, self._working = socket.socketpair()
        self._thread = threading.Thread(target=self._work, name="build", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._done.fileno()

    def cancel(self) -> None:
        """End it and close everything; harmless after ``finish()``."""
        self._compiler.cancel()
        if isinstance(result := self._take(), Datapath):
            result.close()

    def finish(self) -> Datapath:
        """Wait for the end and take over the descriptors.

        Raises:
            UnavailableError: BCC is missing, is another package, or its process died.
            CompileError, VerifierError, KernelError: with the log in ``details``.

        """
        result = self._take()
        if isinstance(result, Datapath):
            return result
        raise result or AssertionError("there is no second result")

    def _take(self) -> Datapath | BaseException | None:
        self._thread.join()
        self._done.close()
        result, self._result = self._result, None
        return result

    def _work(self) -> None:
        try:
            self._result = self._build()
        except BaseException as error:  # noqa: BLE001 - finish() raises it
            self._result = error
        self._working.close()

    def _build(self) -> Datapath:
        request = _request(self._blueprint)
        user = os.geteuid()
        path = program_file.path_of(_key(request, user), self._files) if self._files else None
        if path:
            try:
                if program := _kept(path, user):
                    return self._load(program, {}, path)
            except (UnusableError, VerifierError) as error:
                self.not_used = str(error)
        with self._compiler.compile(request) as (program, maps):
            datapath = self._load(program, maps)
        if path:
            try:
                program_file.write(path, program.to_json())
            except OSError as error:
                self.not_kept = str(error.strerror)
        return datapath

    def _load(self, program: Program, made: Mapping[str, int], path: Path | None = None) -> Datapath:
        loaded = load_program(program, made, self._blueprint.limiter_maps, self._pins)
        try:
            with reported("looking at the program that was loaded"):
                if SECRETS in loaded.maps:
                    _draw_secrets(loaded.maps[SECRETS])
                programs, limiting = _sorted(loaded)
                for hook in self._blueprint.hooks:
                    entry, array, place = CAPTURES[hook]
                    libbpf.put_program(loaded.maps[array], place, programs[entry])
        except BaseException:
            loaded.close()
            raise
        return Datapath(
            blueprint=self._blueprint,
            bcc_version=program.bcc_version,
            file=path,
            kept=loaded.kept,
            discarded=loaded.discarded,
            maps=loaded.maps,
            programs=programs,
            limiting=limiting,
        )


def load(blueprint: Blueprint) -> Datapath:
    """Build a blueprint, and wait for it."""
    return Build(blueprint).finish()


def kept(blueprint: Blueprint, files: Path, user: int) -> Path | None:
    """Return the file in ``files`` that a build by ``user`` would take the program from; None if it would compile it.

    Raises:
        CompileError: the source cannot be read.

    """
    path = program_file.path_of(_key(_request(blueprint), user), files)
    with suppress(UnusableError):
        return path if _kept(path, user) else None
    return None


def _kept(path: Path, user: int) -> Program | None:
    """Return the program that is kept in a file, if BCC is still what has built it. Raises UnusableError."""
    text = program_file.read(path, user)
    try:
        program = Program.of_json(text) if text else None
    except ValueError as error:
        raise UnusableError(str(error)) from error
    return None if program is None or bcc_files.have_changed(program.built_by) else program


def _sorted(loaded: Loaded) -> tuple[dict[str, int], dict[str, int]]:
    """Return the programs, and those with limits of which there is one without, too."""
    limiting = {name: fd for name, fd in loaded.limiting.items() if name in loaded.functions}
    return loaded.limiting | loaded.functions, limiting


def _request(blueprint: Blueprint) -> dict[str, Any]:
    """Return what the compiling child is to do. Raises CompileError if a part of the source cannot be read."""
    perfmon = int(not capabilities.missing(capabilities.SPEED))
    defines = blueprint.defines | blueprint.map_numbers | {"CNF_PERFMON": perfmon}
    try:
        text = flatten(blueprint.source)
    except OSError as error:
        raise CompileError(f"flow.c did not compile: {error}", remedy="install cnf anew") from error
    return {
        "text": text,
        "maps": blueprint.maps,
        "direct": blueprint.direct,
        "variants": [
            {
                "flags": [*FLAGS, *(f"-D{name}={value}" for name, value in (defines | variant.defines).items())],
                "functions": variant.functions,
            }
            for variant in blueprint.variants
        ],
    }


def _key(request: Mapping[str, Any], user: int) -> str:
    """Return what tells a program from all others, on this kernel and for ``user``."""
    kernel = os.uname()
    whole = [FORMAT, request, headers(), kernel.release, kernel.version, kernel.machine, user]
    return sha256(json.dumps(whole).encode())[:32]


def _draw_secrets(fd: int) -> None:
    """Draw the secrets that the caches hash with, unless they have been: kept maps hold their keys by them."""
    with reported(f"drawing the secrets of map {SECRETS}"):
        zero, words = ctypes.c_uint32(), ctypes.create_string_buffer(libbpf.map_info(fd).value_size)
        libbpf.check(libbpf.library().bpf_map_lookup_elem(fd, ctypes.byref(zero), words))
        if not any(words.raw):
            words.raw = os.urandom(len(words))
            libbpf.check(libbpf.library().bpf_map_update_elem(fd, ctypes.byref(zero), words, 0))
