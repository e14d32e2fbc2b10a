"""What holds for every tier: what the machine can run is run, and a test leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import abilities, leaks
from tests.streams import Streams

TESTS: Final = Path(__file__).parent
TIER_NEEDS: Final = {
    "bpf": ("root", "bpf", "seclusion"),
    "net": ("root", "bpf", "netns", "seclusion"),
    "collectors": ("root", "bpf", "netns", "seclusion", "collectors"),
}
STRICT: Final = os.environ.get("CNF_STRICT") == "1" or os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"needs(*abilities): skip where the machine lacks one of {[*abilities.PROBES]}")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Streams:
    """Have workers, if there are any (``-n``), take streams of tests."""
    return Streams(config, log)


@pytest.fixture(autouse=True, scope="session")
def programs_of_this_run() -> Iterator[None]:
    """Have every daemon of the run keep its program where the next one finds it, and no other run."""
    with tempfile.TemporaryDirectory(prefix="cnf-t-programs-") as folder, pytest.MonkeyPatch.context() as context:
        Path(folder).chmod(0o1777)  # there are daemons of other users
        context.setenv("CACHE_DIRECTORY", folder)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot run, with the reason; before any fixture, which might need the same."""
    marked = [ability for marker in item.iter_markers("needs") for ability in marker.args]
    for ability in (*TIER_NEEDS.get(_tier(item.path), ()), *marked):
        if reason := abilities.lacking(ability):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything must run."""
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped here (CNF_STRICT=1 or CI=true), yet: {reason}"
    return report


@pytest.fixture(autouse=True)
def leak_gate(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the tiers that touch the kernel if more is there after it than before."""
    if _tier(request.path) not in TIER_NEEDS:
        yield
        return
    before = leaks.take()
    yield
    if found := leaks.left_behind(before):
        pytest.fail("left behind by the test:\n" + "\n".join(found))


def _tier(path: Path) -> str:
    return path.relative_to(TESTS).parts[0]
