"""What cnfd.service may do, and that this is enough, under the systemd of each suite."""

from __future__ import annotations

from tests.net.wait import wait_for
from tests.system.machine import HOME
from tests.system.service import NODE, Service

IN_FAR = ("ip", "netns", "exec", "far")
CNFCTL, CNFD = f"{HOME}/.venv/bin/cnfctl", f"{HOME}/.venv/bin/cnfd"
NET_ADMIN = 1 << 12
LOADING = 1 << 38 | 1 << 39
"""CAP_PERFMON and CAP_BPF, linux/capability.h."""
SCRAPE = f"from urllib.request import urlopen; urlopen('http://{NODE}:9995/metrics', timeout=1)"
LIMITS = """
[limits]
mode = "shadow"

[[limits.rules]]
name = "default"
prefixes = ["0.0.0.0/0", "::/0"]
packets_per_second = 10000
"""


def test_exposure(service: Service) -> None:
    """``systemd-analyze security`` rates the unit 1.5 at most."""
    analyzed = service.machine.try_to("systemd-analyze", "security", "--no-pager", "--threshold=15", "cnfd.service")
    assert analyzed.returncode == 0, analyzed.stdout


def test_privileges(service: Service) -> None:
    """The daemon runs as cnf, with CAP_NET_ADMIN alone in every thread, and its system calls are filtered."""
    service.configure(service.example("nic0") + LIMITS)
    service.start()
    cnf = service.machine.run("id", "-u", "cnf").strip()
    threads = _of_process(service, "ls", "task").split()
    assert len(threads) > 1
    for thread in threads:
        status = dict(line.split(":\t") for line in _of_process(service, "cat", f"task/{thread}/status").splitlines())
        assert set(status["Uid"].split()) == {cnf}
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[kind], 16) == NET_ADMIN, kind
        assert int(status["CapBnd"], 16) == NET_ADMIN | LOADING
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_restart_loads_as_fast_a_program(service: Service) -> None:
    """What the daemon before has dropped is there for the next one, which is not warned of a slow program."""
    service.start()
    service.signal("KILL")
    service.wait_for_restart()
    assert [line for line in service.journal() if "CAP_PERFMON" in line] == []


def test_where_capset_is_refused(service: Service) -> None:
    """Where the unit's filter has no capset, the daemon warns of what it keeps, and works."""
    service.override("SystemCallFilter=~capset")
    service.start()
    (warning,) = service.events("capabilities not dropped")
    assert (warning["level"], warning["error"]) == ("warning", "Operation not permitted")
    assert "SystemCallFilter" in warning["remedy"]
    assert service.program("nic0") is not None


def test_nothing_is_lacking(service: Service) -> None:
    """From start to stop, with limits, it warns of nothing: it compiles, pins and attaches without more."""
    service.configure(service.example("nic0") + LIMITS)
    service.start()
    service.machine.run("systemctl", "stop", "cnfd")
    assert [line for line in service.journal() if '"level": "info"' not in line] == []


def test_sees_its_own_pins_only(service: Service) -> None:
    """Of bpffs, which is root's, the service has its own folder, and nothing beside it."""
    service.machine.run("mkdir", "/sys/fs/bpf/of-others")
    service.start()
    assert _of_process(service, "ls", "root/sys/fs/bpf").split() == ["cnf"]
    assert service.machine.run("find", "/sys/fs/bpf/cnf", "!", "-user", "cnf") == ""
    refused = service.machine.try_to("nsenter", f"--target={service.show('MainPID')}", "--mount", "mkdir", "/sys/fs/x")
    assert "Read-only file system" in refused.stderr
    service.machine.run("rmdir", "/sys/fs/bpf/of-others")


def test_a_strangers_folder_is_not_relied_on(service: Service) -> None:
    """Where another user has made the folder of the pins, the service works without, and says so; a stop is whole."""
    service.machine.run("chmod", "1777", "/sys/fs/bpf")  # as by mount -t bpf
    service.machine.run("setpriv", "--reuid=65534", "--clear-groups", "mkdir", "-m", "755", "/sys/fs/bpf/cnf")
    try:
        service.start()
        (warning,) = service.events("program not pinned")
        assert warning["level"] == "warning"
        assert "mode=0700" in warning["remedy"]
        assert service.program("nic0") is not None
        assert service.machine.run("find", "/sys/fs/bpf/cnf", "!", "-user", "65534") == ""
        service.machine.run("systemctl", "stop", "cnfd")
        assert service.program("nic0") is None
    finally:
        service.machine.run("sh", "-c", "rmdir /sys/fs/bpf/cnf; chmod 700 /sys/fs/bpf")
    service.start()
    assert service.events("program not pinned") == [warning]


def test_pins_survive_a_kill(service: Service) -> None:
    """After ``kill -9`` program and pins stay, and the next start knows them and takes their place."""
    service.override("Restart=no")
    service.start()
    orphan = service.program("nic0")
    service.signal("KILL")
    wait_for(lambda: service.show("ActiveState") == "failed", "the end")
    assert service.program("nic0") == orphan
    assert service.machine.run("find", "/sys/fs/bpf/cnf", "-type", "f", "-user", "cnf") != ""
    service.start()
    assert service.program("nic0") not in (orphan, None)
    service.machine.run("systemctl", "stop", "cnfd")
    assert service.machine.try_to("test", "-e", "/sys/fs/bpf/cnf").returncode == 1


def test_takes_over_from_root(service: Service) -> None:
    """What a daemon that root ran by hand has left behind is the service's to replace."""
    by_hand = f"{CNFD} >/run/by-hand.log 2>&1 & echo $!"
    pid = service.machine.run("sh", "-c", by_hand).strip()
    wait_for(lambda: service.machine.try_to(CNFCTL, "status").returncode == 0, "the daemon that was run by hand")
    orphan = service.program("nic0")
    service.machine.run("sh", "-c", f"kill -KILL {pid}")  # the shell's own: the machine has no other
    service.start()
    assert service.program("nic0") not in (orphan, None)
    assert service.events("interface refused") == []


def test_socket_is_the_groups(service: Service) -> None:
    """The control socket answers root and the group that control.group names, and nobody else."""
    service.override("SupplementaryGroups=adm")
    text = service.example("nic0")
    assert text.count('\ngroup = ""') == 1
    service.configure(text.replace('\ngroup = ""', '\ngroup = "adm"'))
    service.start()
    assert service.machine.try_to(CNFCTL, "status").returncode == 0
    nobody = ("setpriv", "--reuid=65534", "--regid=65534")
    assert service.machine.try_to(*nobody, "--groups=adm", CNFCTL, "status").returncode == 0
    assert service.machine.try_to(*nobody, "--clear-groups", CNFCTL, "status").returncode == 77


def test_changes_are_kept(service: Service) -> None:
    """A limit that is changed at run time is there after a restart, in a file for the service's eyes only."""
    service.configure(service.example("nic0") + LIMITS)
    service.start()
    service.machine.run(CNFCTL, "limits", "deny", "add", "198.51.100.0/24")
    service.machine.run("systemctl", "restart", "cnfd")
    kept = service.machine.run("stat", "-c", "%a %U", "/var/lib/cnf/limits.json")
    assert kept == "600 cnf\n"
    assert "198.51.100.0/24" in service.machine.run(CNFCTL, "limits")
    service.machine.run("rm", "/var/lib/cnf/limits.json")


def test_metrics_are_local(service: Service) -> None:
    """Another host gets metrics only if the unit allows it, whatever the configuration says."""
    service.configure(service.example("nic0").replace("127.0.0.1:9995", "0.0.0.0:9995"))
    service.start()
    assert service.machine.try_to(*IN_FAR, "python3", "-c", SCRAPE).returncode != 0
    service.override("IPAddressAllow=192.0.2.0/24")
    service.machine.run("systemctl", "restart", "cnfd")
    assert service.machine.try_to(*IN_FAR, "python3", "-c", SCRAPE).returncode == 0


def _of_process(service: Service, command: str, path: str) -> str:
    """Return what ``command`` says to a file of the daemon's in /proc."""
    return service.machine.run(command, f"/proc/{service.show('MainPID')}/{path}")
