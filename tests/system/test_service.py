"""cnfd.service under the systemd of each suite."""

from __future__ import annotations

import json
import re
import time
from functools import partial

import pytest

from tests.net.wait import wait_for
from tests.system.machine import HOME
from tests.system.service import DETACH_UNIT_FILE, FAR, NODE, SOCKET_UNIT_FILE, UNIT_FILE, Service
from tests.system.traffic import LIMITS, nothing_lost

IN_FAR = ("ip", "netns", "exec", "far")
RECEIVE = """
import socket
receiver = socket.socket(type=socket.SOCK_DGRAM)
receiver.bind(("", 5000))
while True:
    receiver.recv(9)
"""
SEND = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 5000))"


def test_unit_file_is_valid(service: Service) -> None:
    """Systemd has nothing to say against the unit files."""
    files = (UNIT_FILE, DETACH_UNIT_FILE, SOCKET_UNIT_FILE)
    verified = service.machine.try_to("systemd-analyze", "verify", "--man=no", *files)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_started_is_ready(service: Service) -> None:
    """When ``systemctl start`` returns, the program is attached, a scrape says so, and the status text counts it."""
    service.start()
    assert 'cnf_interface_attached{direction="ingress",interface="nic0",mode="native"} 1.0' in service.metrics()
    assert service.program("nic0") == service.cnfctl("status")["interfaces"][0]["program_id"]
    assert re.fullmatch(r"attached to 1 of 1 interfaces, \d+ flows", service.show("StatusText"))


def test_no_part_of_a_scrape_fails_in_the_unit(service: Service) -> None:
    """The unit hides most of /proc; what the daemon takes is shown all the same."""
    service.start()
    values = dict(line.rsplit(" ", 1) for line in service.metrics().splitlines() if line and line[0] != "#")
    parts = {name: value for name, value in values.items() if name.startswith("cnf_collector_success")}
    assert set(parts.values()) == {"1.0"}
    assert float(values["process_open_fds"]) > 0
    assert float(values["process_start_time_seconds"]) == pytest.approx(time.time(), abs=120)


def test_counts_traffic(service: Service) -> None:
    """Three pings are a flow of three packets, on the default socket, after the default drain."""
    service.start()
    service.machine.run(*IN_FAR, "ping", "-c", "3", "-i", "0.1", NODE)

    def counted() -> bool:
        flows = service.cnfctl("flows", "--filter", f"icmp and src host {FAR}")
        return [flow["packets"] for flow in flows] == [3]

    wait_for(counted, "the flow")
    assert service.cnfctl("status")["ledger"]["packets"]["difference"] == 0


def test_journal_is_json(service: Service) -> None:
    """Every line from start to stop is a JSON object with a level and an event."""
    service.start()
    service.machine.run("systemctl", "stop", "cnfd")
    entries = [json.loads(line) for line in service.journal()]
    events = [(entry["level"], entry["event"]) for entry in entries]
    assert events == [
        *[("info", "program attached")] * 2,
        ("info", "ready"),
        ("info", "stopping"),
        *[("info", "program detached")] * 2,
    ]


def test_stop_leaves_nothing(service: Service) -> None:
    """After ``systemctl stop`` there is no program, no pin and no socket, and systemd calls it a success."""
    service.start()
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.show("Result") == "success"
    assert service.program("nic0") is None
    for path in ("/run/cnf", "/sys/fs/bpf/cnf"):
        assert service.machine.try_to("test", "-e", path).returncode == 1


def test_a_restart_has_no_gap(service: Service) -> None:
    """Over ``systemctl restart`` every packet is counted, none over the limit comes through, and counts go on."""
    service.configure(service.example("nic0").replace('"5s"               # from', '"200ms" # from') + LIMITS)
    service.start()
    with nothing_lost(service):
        for _ in range(3):
            before = service.show("MainPID"), service.program("nic0")
            service.machine.run("systemctl", "restart", "cnfd")
            assert service.show("MainPID") != before[0]
            assert service.program("nic0") not in (before[1], None)
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.program("nic0") is None


def test_a_socket_unit_refuses_no_scrape(service: Service) -> None:
    """With cnfd.socket the first scrape starts the daemon, and scrapes during restarts wait for the next one."""
    service.machine.run("systemctl", "start", "cnfd.socket")
    assert service.show("ActiveState") == "inactive"
    assert "cnf_build_info" in service.metrics()
    assert service.show("ActiveState") == "active"
    for _ in range(3):
        service.machine.run("systemctl", "restart", "--no-block", "cnfd")
        for _ in range(5):
            assert "cnf_build_info" in service.metrics()
    (event, *_) = service.events("listening on sockets of systemd")
    assert event["addresses"] == ["127.0.0.1:9995"]
    service.machine.run("systemctl", "stop", "cnfd.socket", "cnfd")


def test_a_restart_with_a_bad_file_has_no_gap(service: Service) -> None:
    """A restart that the file makes fail leaves the program at work, and the next one goes on with its counts."""
    good = service.example("nic0").replace('"5s"               # from', '"200ms" # from') + LIMITS
    service.configure(good)
    service.start()
    with nothing_lost(service):
        service.configure(good + "\n[flow]\n")
        assert service.machine.try_to("systemctl", "restart", "cnfd").returncode != 0
        assert (service.show("ActiveState"), service.show("ExecMainStatus")) == ("failed", "78")
        assert service.program("nic0") is not None
        service.configure(good)
        service.machine.run("systemctl", "restart", "cnfd")


@pytest.mark.parametrize("state", ["failed", "auto-restart"])
def test_stop_leaves_nothing_of_one_that_has_failed(service: Service, state: str) -> None:
    """What goes on without a daemon, since the next start was refused, is taken back by a stop, too."""
    service.start()
    if state == "failed":
        service.configure("[flow]\n")
    else:
        service.override("Environment=PYTHONPATH=/nowhere\nRestartSec=1h\nExecStartPre=/bin/false")
    assert service.machine.try_to("systemctl", "restart", "cnfd").returncode != 0
    assert service.show("SubState") == state
    assert service.program("nic0") is not None

    service.machine.run("systemctl", "stop", "cnfd")

    assert service.program("nic0") is None
    assert service.machine.try_to("test", "-e", "/sys/fs/bpf/cnf").returncode == 1


def test_stop_while_starting_leaves_nothing(service: Service) -> None:
    """A stop that comes before a restart is through leaves nothing of the daemon before."""
    service.start()
    service.machine.run("sh", "-c", "rm /var/cache/cnf/*")  # or there would be nothing to compile
    service.machine.run("systemctl", "restart", "--no-block", "cnfd")
    wait_for(lambda: service.show("StatusText") == "building the program", "the compiler to start")
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.program("nic0") is None
    assert service.machine.try_to("test", "-e", "/sys/fs/bpf/cnf").returncode == 1


def test_what_is_to_be_kept_is_kept(service: Service) -> None:
    """With on_exit = "keep" the program stays after a stop, until ``cnfctl detach``."""
    service.configure('on_exit = "keep"\n' + service.example("nic0").replace('on_exit = "detach"', "", 1))
    service.start()
    before = service.program("nic0")
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.program("nic0") == before
    service.machine.run(f"{HOME}/current/.venv/bin/cnfctl", "detach")
    assert service.program("nic0") is None


def test_journal_knows_what_is_serious(service: Service) -> None:
    """``journalctl -p warning`` shows warnings and errors, the line that a refused start ends with among them."""
    service.configure(service.example("nic0") + '\n[[interfaces]]\nname = "nic9"\n')
    service.start()
    service.configure("[flow]\n")
    assert service.machine.try_to("systemctl", "restart", "cnfd").returncode != 0
    assert service.journal("-p", "info..info") != []
    warning, error = service.journal("-p", "warning")
    assert json.loads(warning)["event"] == "interface missing, waiting for it"
    assert error.startswith("cnfd: configuration /etc/cnf/cnf.toml: ")


def test_good_reload(service: Service) -> None:
    """``systemctl reload`` puts the program on an interface that is new in the file, without a restart."""
    service.start()
    before = service.show("MainPID"), service.program("nic0")
    service.configure(service.example("nic*"))
    service.machine.run("systemctl", "reload", "cnfd")
    assert service.program("nic1") == service.program("nic0")
    assert (service.show("MainPID"), service.program("nic0")) == before
    assert service.show("ActiveState") == "active"


def test_bad_reload(service: Service) -> None:
    """For a file with an error in it ``systemctl reload`` fails, the journal names the key, and all stays as it was."""
    service.start()
    before = service.show("MainPID"), service.program("nic0")
    service.configure(service.example("nic*") + "\n[flow]\n")
    assert service.machine.try_to("systemctl", "reload", "cnfd").returncode != 0
    (refused,) = service.events("reload refused, the settings stay as they were")
    assert refused["level"] == "error"
    assert "flow: unknown key, did you mean flows?" in refused["error"]
    assert (service.show("MainPID"), service.program("nic0"), service.program("nic1")) == (*before, None)
    assert service.show("ActiveState") == "active"


def test_watchdog_is_fed(service: Service) -> None:
    """The daemon tells systemd again and again that it lives, in time for a watchdog of a second."""
    service.start()
    assert service.show("WatchdogUSec") == "30s"
    service.override("WatchdogSec=1s")
    service.machine.run("systemctl", "restart", "cnfd")
    for _ in range(4):
        fed = service.show("WatchdogTimestampMonotonic")
        wait_for(partial(_differs, service, "WatchdogTimestampMonotonic", fed), "the next feeding", 5)
    assert service.show("NRestarts") == "0"


def test_hang_ends_in_restart(service: Service) -> None:
    """A daemon that does nothing any more is ended by the watchdog and started again, and attaches again."""
    service.override("WatchdogSec=1s")
    service.start()
    hung = service.show("MainPID")
    service.signal("STOP")
    service.wait_for_restart()
    assert service.show("MainPID") != hung
    assert service.program("nic0") == service.cnfctl("status")["interfaces"][0]["program_id"]


def test_kill_ends_in_restart(service: Service) -> None:
    """After ``kill -9`` a new daemon runs, and its program has taken the place of the one that was left behind."""
    service.start()
    orphan = service.program("nic0")
    service.signal("KILL")
    service.wait_for_restart()
    program = service.program("nic0")
    assert program not in (orphan, None)
    assert program == service.cnfctl("status")["interfaces"][0]["program_id"]
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.program("nic0") is None


def test_bad_configuration_is_not_retried(service: Service) -> None:
    """A start with an error in the file fails with status 78 and one line that says what, and is not tried again."""
    service.configure(service.example("nic0").replace("262144", "0"))
    assert service.machine.try_to("systemctl", "start", "cnfd").returncode != 0
    assert (service.show("ActiveState"), service.show("NRestarts")) == ("failed", "0")
    assert service.show("ExecMainStatus") == "78"
    (line,) = service.journal()
    assert line.startswith("cnfd: configuration /etc/cnf/cnf.toml: flows.max_entries: ")
    assert service.program("nic0") is None


def test_setup_has_nothing_left_to_do(service: Service) -> None:
    """A second ``deploy/setup.sh`` says nothing and needs no network."""
    again = service.machine.try_to("sh", f"{HOME}/deploy/setup.sh")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def _differs(service: Service, name: str, before: str) -> bool:
    return service.show(name) != before


def test_owners(service: Service) -> None:
    """Within its unit's confines, the daemon finds the unit that has a flow's socket."""
    service.machine.run("systemd-run", "--unit=talks", "--uid=daemon", "/usr/bin/python3", "-c", RECEIVE)
    service.start()

    def owned() -> bool:
        service.machine.run(*IN_FAR, "/usr/bin/python3", "-c", SEND, NODE)
        flows = service.cnfctl("flows", "--owner", "--filter", f"udp and src host {FAR} and dst port 5000")
        return {(flow["owner"], flow["uid"]) for flow in flows} == {("talks.service", 1)}

    try:
        wait_for(owned, "the owner")
    finally:
        service.machine.run("systemctl", "stop", "talks")
