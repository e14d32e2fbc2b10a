"""``cnfctl doctor`` as root on a machine with systemd: it names what the service, which is not root, will meet."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

import pytest

from tests.system.machine import HOME
from tests.system.service import CONFIG, Service

SOCKET = "/run/cnf/cnf.sock"
STRANGE = "audio"
"""A group that every Debian has, and the user cnf is not in."""


class Case(NamedTuple):
    """What stops the service: another text or mode of the configuration, or another option of the unit."""

    status: int
    seen: str
    old: str = ""
    new: str = ""
    option: str = ""
    mode: str = ""


CASES = {
    "group": Case(
        os.EX_NOPERM, "user cnf is no member, and so cannot give it the socket", 'group = ""', f'group = "{STRANGE}"'
    ),
    "port": Case(os.EX_NOPERM, "user cnf may not have a port below 1024", "127.0.0.1:9995", "127.0.0.1:80"),
    "read-only": Case(os.EX_NOPERM, "read-only for the service", SOCKET, "/srv/cnf.sock"),
    "another's folder": Case(
        os.EX_NOPERM, "user cnf may not write to /srv", SOCKET, "/srv/cnf.sock", "ReadWritePaths=/srv"
    ),
    "unreadable": Case(os.EX_NOPERM, f"{CONFIG}: user cnf may not read it", mode="600"),
    "capabilities": Case(os.EX_NOPERM, "no CAP_NET_ADMIN and CAP_BPF", option="CapabilityBoundingSet="),
}


def examined(service: Service) -> tuple[int, list[dict[str, str]]]:
    """Return the doctor's exit status, and what it has against the service and its memory."""
    done = service.machine.try_to(f"{HOME}/current/.venv/bin/cnfctl", "doctor", "-o", "json")
    assert done.stderr == ""
    findings = json.loads(done.stdout)["findings"]
    concerned = [finding for finding in findings if finding["name"] in ("service", "memory")]
    assert done.returncode or all(finding["state"] != "problem" for finding in findings)
    return done.returncode, [finding for finding in concerned if finding["state"] != "ok"]


def test_a_service_that_starts(service: Service) -> None:
    """For the unit as it is installed the doctor has nothing to say, before the start and after it."""
    assert examined(service) == (0, [])
    service.start()
    assert examined(service) == (0, [])


@pytest.mark.parametrize("name", CASES)
def test_what_stops_the_service(service: Service, name: str) -> None:
    """The doctor names what the service ends with, and the status, while cnfd by itself would start as root."""
    case = CASES[name]
    text = service.example("nic0")
    assert case.old in text
    service.configure(text.replace(case.old, case.new) if case.old else text)
    if case.option:
        service.override(case.option)
    if case.mode:
        service.machine.run("chmod", case.mode, CONFIG)
    assert service.machine.try_to("systemctl", "start", "cnfd").returncode != 0
    assert service.show("ExecMainStatus") == str(case.status)
    status, found = examined(service)
    assert status == case.status
    assert [finding["name"] for finding in found if finding["state"] == "problem"] == ["service"]
    assert case.seen in found[0]["seen"]


def test_the_remedy_lets_it_start(service: Service) -> None:
    """With the option that the doctor names, the service starts, and has given its socket to the group."""
    service.configure(service.example("nic0").replace('group = ""', f'group = "{STRANGE}"'))
    _, (problem,) = examined(service)
    before, _, option = problem["remedy"].partition("[Service] ")
    assert before == "systemctl edit cnfd: "
    service.override(option)
    assert examined(service) == (0, [])
    service.start()
    assert service.machine.run("stat", "-c", "%G %a", SOCKET).split() == [STRANGE, "660"]


def test_a_memory_that_is_too_small(service: Service) -> None:
    """A unit with less memory than the start takes is a problem, with its figure and with what makes it larger."""
    service.override("MemoryMax=160M")
    status, (found,) = examined(service)
    assert status == os.EX_OSERR
    assert (found["name"], found["state"]) == ("memory", "problem")
    assert found["seen"].endswith("; MemoryMax= 168 MB")
    assert "systemctl edit cnfd" in found["remedy"]


def test_metrics_that_nobody_reaches(service: Service) -> None:
    """An address for others, whom the unit does not let in, is a warning: the service starts and answers nobody."""
    service.configure(service.example("nic0").replace("127.0.0.1:9995", "0.0.0.0:9995"))
    status, (found,) = examined(service)
    assert (status, found["name"], found["state"]) == (0, "service", "warning")
    assert "IPAddressAllow=" in found["remedy"]
    service.override("IPAddressAllow=192.0.2.2")
    assert examined(service) == (0, [])
