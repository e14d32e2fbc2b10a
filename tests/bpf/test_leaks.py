"""The leak gate sees whatever a test may leave behind, and nothing that another run has made."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from cnf.datapath.blueprint import Blueprint
from cnf.datapath.build import Build, Datapath
from cnf.kernel import libbpf
from tests import leaks, seclusion

ANOTHER_RUN = """
import sys
from pathlib import Path
from tests import seclusion
assert seclusion.begin() == ""
(seclusion.BPFFS / "of-another-run").mkdir()
(seclusion.NAMESPACES / "of-another-run").touch()
from cnf.datapath.blueprint import Blueprint
from cnf.datapath.build import Build
datapath = Build(Blueprint(64), seclusion.BPFFS / "of-another-run").finish()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def a_descriptor(datapath: Datapath) -> Iterator[None]:
    """Hold a map by one more descriptor."""
    fd = os.dup(datapath.maps["flows4"])
    yield
    os.close(fd)


@contextmanager
def a_mapping(datapath: Datapath) -> Iterator[None]:
    """Hold a map that nobody has a descriptor of."""
    libc = ctypes.CDLL(None)  # Python's own mmap keeps a descriptor
    libc.mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(mmap.PAGESIZE)
    flows = datapath.maps["flows4"]
    address = ctypes.c_void_p(libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, flows, ctypes.c_long(0)))
    yield
    assert libc.munmap(address, size) == 0


@contextmanager
def a_pin(datapath: Datapath) -> Iterator[None]:
    """Hold a map by a pin."""
    path = seclusion.BPFFS / "left"
    libbpf.pin(datapath.maps["flows4"], path)
    yield
    path.unlink()


@contextmanager
def a_namespace(_datapath: Datapath) -> Iterator[None]:
    """Hold a network namespace, with whatever is in it."""
    subprocess.run(("ip", "netns", "add", "left"), check=True)
    yield
    subprocess.run(("ip", "netns", "del", "left"), check=True)


@contextmanager
def a_process(_datapath: Datapath) -> Iterator[None]:
    """Let a process go on."""
    with subprocess.Popen(("sleep", "infinity"), pass_fds=()) as process:
        yield
        process.kill()


@contextmanager
def a_thread(_datapath: Datapath) -> Iterator[None]:
    """Let a thread go on."""
    enough = threading.Event()
    thread = threading.Thread(target=enough.wait)
    thread.start()
    yield
    enough.set()
    thread.join()


@pytest.mark.parametrize(
    ("leak", "kind"),
    [
        (a_descriptor, "descriptors"),
        (a_mapping, "mappings"),
        (a_pin, "pins"),
        (a_namespace, "namespaces"),
        (a_process, "processes"),
        (a_thread, "threads"),
    ],
)
def test_what_is_left_is_seen(leak: Callable[[Datapath], AbstractContextManager[None]], kind: str) -> None:
    """Each way to hold a program or a map shows as what it is, until it has ended."""
    with closing(Build(Blueprint(64)).finish()) as datapath:
        before = leaks.take()
        with leak(datapath):
            (seen,) = leaks.since(before)
            assert seen.startswith(f"{kind}: ")
        assert leaks.left_behind(before) == []


def test_another_run_is_not_seen() -> None:
    """What a run at the same time has pinned, and its namespaces, are no concern of this one's tests."""
    command = (sys.executable, "-c", ANOTHER_RUN)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as another:
        assert another.stdout is not None
        before = leaks.take()
        assert another.stdout.readline() == b"ready\n"
        assert leaks.since(before) == []
        another.communicate(b"")
    assert another.returncode == 0
