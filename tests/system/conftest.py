"""A machine of each suite, and on it the service."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest

from tests.system import machine as machines
from tests.system.machine import SUITES, Machine
from tests.system.service import Service


@pytest.fixture(scope="session", params=SUITES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Set up and boot a machine once for all tests of its suite."""
    if reason := machines.lacking():
        pytest.skip(reason)
    faulthandler.cancel_dump_traceback_later()  # pytest's: this takes minutes where nothing is in the cache yet
    with machines.set_up(request.param) as root, machines.booted(root) as machine:
        yield machine


@pytest.fixture(scope="session")
def installed(machine: Machine) -> Service:
    """Install the service once on each machine."""
    return Service(machine)


@pytest.fixture
def service(installed: Service) -> Iterator[Service]:
    """Give each test the service as it was installed, stopped."""
    yield installed
    installed.reset()
