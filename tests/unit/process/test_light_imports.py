"""Libraries are imported without what cnfd does not use, and as they are where that does not work."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Final

import pytest

LIGHT: Final = """
import sys
from cnf.process import light_imports
assert light_imports.load() == {}
"""
ENCODE: Final = """
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
registry = CollectorRegistry()
Counter("packets", "Packets.", ["interface"], registry=registry).labels('e"th\\n0').inc(3)
Gauge("fill", "Fill.", registry=registry).set(0.5)
Histogram("drain_seconds", "Time.", registry=registry).observe(0.1)
for accept in ("", "text/plain;version=1.0.0;escaping=allow-utf-8", "application/openmetrics-text;version=1.0.0"):
    encoder, kind = choose_encoder(accept)
    print(kind, [line for line in encoder(registry).decode().splitlines() if "_created" not in line])
"""


def run(code: str) -> str:
    """Run Python code in a process of its own; return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_daemon_loads_nothing_that_is_left_out() -> None:
    """With the versions that are locked, no part of it comes in by another way."""
    left_out = ("_hashlib", "_ssl", "http.server", "pyroute2.ndb", "rich", "ssl", "unittest", "urllib.request")
    found = run(
        f"{LIGHT}import cnf.cnfd, cnf.daemon.daemon\nprint([name for name in {left_out} if name in sys.modules])"
    )
    assert found == "[]\n"


def test_what_is_left_out_can_be_imported_later() -> None:
    """Nothing stays in its place."""
    code = "import _hashlib, http.server, ssl, unittest.mock, urllib.request\nprint(ssl.OPENSSL_VERSION_INFO[0] > 0)"
    assert run(LIGHT + code) == "True\n"


def test_metrics_are_written_as_by_the_whole_library() -> None:
    """The same in every format."""
    light = run(LIGHT + ENCODE)
    assert "openmetrics" in light
    assert light == run(ENCODE)


def test_a_library_writes_nothing_to_standard_error() -> None:
    """What pyroute2 warns of as it is imported, it warns of by ``logging``, and its ``__init__`` sees to that."""
    code = """
    import logging
    sys.stderr = sys.stdout
    logging.getLogger("pyroute2.netlink").warning("the functionality is limited")
    """
    assert run(LIGHT + textwrap.dedent(code)) == ""


def test_every_other_name_of_a_library_is_there() -> None:
    """Whoever asks for one gets it, and what was imported before stays what it was."""
    code = """
    from pyroute2 import IPRoute, netns
    import pyroute2
    print("pyroute2.ndb" in sys.modules, netns.__name__)
    from pyroute2 import NDB
    print("pyroute2.ndb" in sys.modules, pyroute2.IPRoute is IPRoute, hasattr(pyroute2, "nonsense"))
    """
    assert run(LIGHT + textwrap.dedent(code)) == "False pyroute2.netns\nTrue True False\n"


@pytest.mark.parametrize(
    ("change", "library"),
    [
        ('light_imports.LIBRARIES["pyroute2"].parts["IPRoute"] = "gone"', "pyroute2"),
        ('light_imports.LIBRARIES["prometheus_client"].parts["Summary"] = "registry"', "prometheus_client"),
        ('light_imports.ABSENT["asyncio"] = "selectors"', "asyncio"),
    ],
)
def test_a_library_is_imported_whole_where_that_does_not_work(change: str, library: str) -> None:
    """It is named with what failed, and works."""
    code = f"""
    import sys
    from cnf.process import light_imports
    {change}
    failed = light_imports.load()
    import asyncio, prometheus_client, pyroute2
    print([*failed], bool(failed[{library!r}]), asyncio.sleep, prometheus_client.Summary, pyroute2.IPRoute)
    """
    assert run(code).startswith(f"[{library!r}] True <function sleep")


@pytest.mark.parametrize(("own", "loaded"), [("", "False"), ('light_imports.OWN_HASHES = ("gone",)', "True")])
def test_digests_take_openssl_only_where_python_has_no_hashes(own: str, loaded: str) -> None:
    """Distributions take Python's own out; a digest is the same by either."""
    code = f"""
    import sys
    from cnf.process import light_imports
    {own}
    print(light_imports.sha256(b"abc")[:16], light_imports.load(), "_hashlib" in sys.modules)
    """
    assert run(code) == f"ba7816bf8f01cfea {{}} {loaded}\n"
