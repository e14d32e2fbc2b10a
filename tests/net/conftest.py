"""Two namespaces, and daemons in one of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import seclusion
from tests.net.daemon import Daemon
from tests.net.leavings import clear
from tests.net.namespaces import Namespace, Wire
from tests.net.users import Stage


class Node:
    """The node under test and the network around it, each a namespace."""

    def __init__(self, stack: ExitStack) -> None:
        """Make both; ``stack`` takes them away, with all that comes into them."""
        self._stack = stack
        self.inside = stack.enter_context(Namespace())
        self.outside = stack.enter_context(Namespace())
        self._wires = 0

    def wire(self, name: str | bytes, mtu: int = 1500) -> Wire:
        """Connect the node's interface ``name`` with the outside."""
        self._wires += 1
        return Wire(self.inside, self.outside, name, f"far{self._wires}", mtu)

    def daemon(self, *interfaces: str, **tables: Mapping[str, object]) -> Daemon:
        """Return a daemon, not yet started, with a folder of its own that every user may look into."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="cnf-t-")))
        folder.chmod(0o755)
        daemon = Daemon(self.inside, folder, *interfaces, **tables)
        self._stack.callback(daemon.close)
        return daemon


@pytest.fixture
def node() -> Iterator[Node]:
    """Give each test a node of its own, on which no limits have been changed."""
    (seclusion.STATE / "limits.json").unlink(missing_ok=True)
    with ExitStack() as stack:
        yield Node(stack)


@pytest.fixture
def folder(node: Node) -> Iterator[Path]:
    """Return the folder of the node's pins; whatever becomes of a test, it is gone in the end."""
    path = node.inside.pins
    yield path
    clear(path)


@pytest.fixture
def wired(node: Node) -> Node:
    """Give the node the interface n0."""
    node.wire("n0")
    return node


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Have the project where other users may read it."""
    with tempfile.TemporaryDirectory(prefix="cnf-t-") as folder:
        Path(folder).chmod(0o755)
        yield Stage(Path(folder))
