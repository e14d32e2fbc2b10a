"""``cnfctl doctor`` on real causes: it names what cnfd itself ends with, and attaches nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

import cnf
from cnf.cli.doctor.interfaces import VETH_RESERVE
from cnf.datapath import sizes
from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.datapath.build import load
from cnf.kernel.nics import nics
from tests import abilities
from tests.net import cgroups
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, CNFD, Daemon
from tests.net.foreign import foreign_program
from tests.net.users import NOBODY, Stage, as_user, without
from tests.net.wait import PATIENCE

PACKAGE = Path(cnf.__file__).parent
FEATURES = ("lru hash", "batch lookup", "lookup and delete", "xdp test run")
MOST = os.sysconf("SC_PAGE_SIZE") - VETH_RESERVE
CAPABLE = as_user(capabilities=("bpf", "net_admin", "perfmon"))


@dataclass(frozen=True)
class Report:
    """What the doctor said; ``found`` by name, the last of several."""

    status: int
    found: dict[str, dict[str, str]]

    @property
    def problems(self) -> dict[str, dict[str, str]]:
        """What would stop cnfd."""
        return {name: finding for name, finding in self.found.items() if finding["state"] == "problem"}


def examined(daemon: Daemon, command: Sequence[str] = CNFCTL) -> Report:
    """Run the doctor where ``daemon`` runs, for its configuration and in its environment."""
    whole = (*daemon.namespace.enter, *command, "doctor", "-o", "json", "--config", str(daemon.config))
    done = subprocess.run(
        whole, capture_output=True, text=True, check=False, timeout=PATIENCE, env=os.environ | daemon.environment
    )
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["would_start"] == (done.returncode == 0)
    return Report(done.returncode, {finding["name"]: finding for finding in report["findings"]})


def same_cause(daemon: Daemon, command: Sequence[str] = CNFCTL) -> tuple[str, dict[str, str]]:
    """Have cnfd refuse to start and the doctor say why; return the one cause that both name, and the finding."""
    status, line = daemon.refused()
    report = examined(daemon, command)
    assert report.status == status, (line, report.problems)
    ((name, finding),) = report.problems.items()
    assert finding["seen"] in line
    return name, finding


def test_a_web_configuration(wired: Node, tmp_path: Path) -> None:
    """The doctor says what it asks for, and finds the mistake that cnfd refuses to start for."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}", encoding="ascii")
    daemon = wired.daemon("n0", metrics={"web_config": str(path)})
    assert examined(daemon).found["metrics.web_config"]["seen"] == f"{path}: asks for nothing"
    daemon.start()
    assert examined(daemon).found["metrics.listen"]["seen"].endswith("held by the cnfd that runs")
    daemon.stop()
    path.write_text("basic_auth_users: {alice: secret}", encoding="ascii")
    assert same_cause(daemon)[0] == "metrics.web_config"
    checked = subprocess.run((*CNFD, "--check-config", "--config", daemon.config), check=False, capture_output=True)
    assert checked.returncode == 78


def test_a_machine_that_lacks_nothing(wired: Node, tmp_path: Path) -> None:
    """Where cnfd starts the doctor says so, and attaches nothing; so it does while cnfd runs, which is left alone.

    What cnfd keeps of its program is not compiled again.
    """
    daemon = wired.daemon("n0").keep_programs_in(tmp_path / "programs")
    report = examined(daemon)
    assert report.status == 0
    assert wired.inside.programs() == {}
    for name in (*FEATURES, "jit", "capabilities", "libbpf", "bcc", "program", "configuration", "memory"):
        assert report.found[name]["state"] == "ok", name
    assert report.found["program"]["seen"] == "compiles, and the verifier takes it"
    assert report.found["interface n0"]["seen"] == "veth, MTU 1500: native XDP"
    assert report.found["control.socket"]["seen"] == f"{daemon.socket} is free"
    assert report.found["metrics.listen"]["seen"].endswith(" is free")

    daemon.start()
    number = daemon.interfaces()["n0"]["program_id"]
    report = examined(daemon)
    assert report.status == 0
    (file,) = (tmp_path / "programs").iterdir()
    assert report.found["program"]["seen"] == f"{file}: compiled before, and this kernel took it"
    assert report.found["interface n0"]["seen"] == f"veth, MTU 1500: cnfd's program {number} (native) is on it"
    assert f"pid {daemon.pid}" in report.found["daemon"]["seen"]
    assert report.found["control.socket"]["seen"].endswith("held by the cnfd that runs")
    assert report.found["metrics.listen"]["seen"].endswith("held by the cnfd that runs")
    assert wired.inside.programs() == {"n0": number}


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        pytest.param(("net_admin",), "CAP_NET_ADMIN", id="CAP_NET_ADMIN"),
        pytest.param(("bpf", "sys_admin"), "CAP_BPF", id="CAP_BPF"),
    ],
)
def test_a_missing_capability(wired: Node, dropped: tuple[str, ...], missing: str) -> None:
    """The doctor names the capability that cnfd misses, and what it cannot try without it is no problem of its own."""
    daemon = wired.daemon("n0")
    daemon.command = ("setpriv", *without(*dropped), *CNFD)
    name, finding = same_cause(daemon, ("setpriv", *without(*dropped), *CNFCTL))
    assert name == "capabilities"
    assert missing in finding["seen"]
    assert f"--cap-add={missing.removeprefix('CAP_')}" in finding["remedy"]


def test_limits_without_cap_perfmon(wired: Node) -> None:
    """A kernel that takes limits with CAP_PERFMON only has both say so; a newer one takes them, only slower."""
    daemon = wired.daemon("n0", limits={"mode": "shadow", "deny": ["198.51.100.1"]})
    daemon.command, ctl = (("setpriv", *without("perfmon", "sys_admin"), *command) for command in (CNFD, CNFCTL))
    if abilities.lacking("limits without CAP_PERFMON"):
        name, finding = same_cause(daemon, ctl)
        assert name == "program"
        assert "CapabilityBoundingSet=CAP_PERFMON" in finding["remedy"]
    else:
        assert examined(daemon, ctl).status == 0
        daemon.start()
        daemon.attached("n0")


def test_a_plain_user(wired: Node, stage: Stage) -> None:
    """A user without privileges learns of all that he may not do, first of the capabilities, and of nothing else."""
    daemon = wired.daemon("n0")
    daemon.command = stage.command("cnf.cnfd", *as_user())
    status, line = daemon.refused()
    report = examined(daemon, stage.command("cnf.cli", *as_user()))
    assert report.status == status == 77
    assert report.problems.keys() == {"capabilities", "control.socket"}
    assert report.problems["capabilities"]["seen"] in line
    assert report.found["xdp test run"]["state"] == "unknown"
    assert report.found["bcc"]["state"] == "ok"


def test_a_configuration_that_cannot_be_read(wired: Node, stage: Stage) -> None:
    """A file that this user may not read is a matter of privilege to both."""
    daemon = wired.daemon("n0")
    daemon.config.chmod(0o600)
    os.chown(daemon.socket.parent, NOBODY, NOBODY)
    daemon.command = stage.command("cnf.cnfd", *CAPABLE)
    name, finding = same_cause(daemon, stage.command("cnf.cli", *CAPABLE))
    assert name == "configuration"
    assert finding["remedy"].startswith("run as root")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("raise ImportError('no such module')", "BCC is missing: no such module", id="missing"),
        pytest.param("", "is not BCC but PyPI's package of that name", id="another package"),
    ],
)
def test_no_bcc(wired: Node, tmp_path: Path, content: str, says: str) -> None:
    """Without BCC, or with PyPI's package of that name, both say so and name the package to install."""
    (tmp_path / "bcc.py").write_text(content, encoding="utf-8")
    name, finding = same_cause(_with_path(wired.daemon("n0"), tmp_path))
    assert name == "bcc"
    assert says in finding["seen"]
    assert "python3-bpfcc" in finding["remedy"]


def test_no_bcc_but_a_program_that_was_built_before(wired: Node, tmp_path: Path) -> None:
    """Both start: the lack is a warning, with what ends this; without the program it is a problem."""
    programs = tmp_path / "programs"
    daemon = wired.daemon("n0").keep_programs_in(programs)
    daemon.start().stop()
    daemon.remove_bcc(tmp_path).start().stop()

    report = examined(daemon)
    assert report.status == 0
    assert report.found["bcc"]["state"] == "warning"
    assert report.found["bcc"]["seen"].startswith("BCC is missing: ")
    assert "python3-bpfcc" in report.found["bcc"]["remedy"]
    assert report.found["program"]["state"] == "ok"
    assert report.found["program"]["seen"].startswith(str(next(programs.iterdir())))

    shutil.rmtree(programs)
    assert same_cause(daemon)[0] == "bcc"


def test_no_libbpf(wired: Node, tmp_path: Path) -> None:
    """A libbpf that cannot be loaded is what both blame, by its file; BCC needs it too."""
    library = tmp_path / "libbpf.so.1"
    library.touch()
    daemon = wired.daemon("n0").keep_programs_in(tmp_path)
    daemon.environment["LD_LIBRARY_PATH"] = str(tmp_path)
    status, line = daemon.refused()
    report = examined(daemon)
    assert report.status == status == 69
    assert report.problems.keys() == {"libbpf", "bcc"}
    for text in (line, report.problems["libbpf"]["seen"], report.problems["bcc"]["seen"]):
        assert f"{library}: file too short" in text
    assert "install" in report.problems["libbpf"]["remedy"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("return XDP_PASS;", "return XDP_PAST;", id="does not compile"),
        pytest.param("int cnf_clock(struct xdp_md *ctx)\n{", "int cnf_clock(struct xdp_md *ctx)\n{\n"
                     "\tif (*(__u8 *)(long)ctx->data)\n\t\treturn 1;", id="is rejected"),
    ],
)  # fmt: skip
def test_program_that_does_not_load(wired: Node, tmp_path: Path, old: str, new: str) -> None:
    """A program that the compiler or the verifier refuses is refused to the doctor as well, in the same words."""
    source = shutil.copytree(PACKAGE, tmp_path / "cnf") / "bpf" / "flow.c"
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    name, _finding = same_cause(_with_path(wired.daemon("n0"), tmp_path))
    assert name == "program"


@pytest.mark.needs("memory cgroup")
def test_a_cgroup_with_too_little_memory(wired: Node) -> None:
    """Where tables and start do not fit the memory of the cgroup, as in a container, both end with 71 and say so."""
    daemon = wired.daemon("n0", flows={"max_entries": 1 << 20})
    with cgroups.bounded(160 << 20) as inside:
        daemon.command = (*inside, *CNFD)
        status, line = daemon.refused()
        report = examined(daemon, (*inside, *CNFCTL))
    assert report.status == status == 71
    assert "cnfctl doctor" in line
    assert report.problems.keys() == {"memory"}
    assert report.problems["memory"]["seen"].endswith("; this cgroup may have 168 MB")
    assert "container" in report.problems["memory"]["remedy"]


def test_what_a_plain_user_is_told(wired: Node, stage: Stage) -> None:
    """A user who may not ask the daemon is told what takes root, and never to stop it or to take its program off."""
    daemon = wired.daemon("n0").start()
    number = daemon.interfaces()["n0"]["program_id"]
    report = examined(daemon, stage.command("cnf.cli", *as_user()))
    assert report.status == 77
    assert report.problems.keys() == {"capabilities", "control.socket"}
    assert f"program {number} (native) is on it" in report.found["interface n0"]["seen"]
    assert report.found["interface n0"]["remedy"] == "run the doctor as root"
    assert report.found["daemon"]["state"] == "unknown"
    for finding in report.found.values():
        for wrong in ("ip link set", "systemctl stop", "kill", "group", "AmbientCapabilities", "move"):
            assert wrong not in (finding["remedy"] or ""), finding


def test_bad_configuration(wired: Node) -> None:
    """What is wrong in the file is told as cnfd tells it."""
    daemon = wired.daemon("n0")
    daemon.configure([{"name": "n0", "mode": "fast"}])
    name, finding = same_cause(daemon)
    assert name == "configuration"
    assert "interfaces[0].mode" in finding["seen"]


def test_no_configuration(wired: Node) -> None:
    """A file that is not there is told as cnfd tells it."""
    daemon = wired.daemon("n0")
    daemon.config.unlink()
    assert same_cause(daemon)[0] == "configuration"


def test_no_such_group(wired: Node) -> None:
    """A group that this machine does not have is told as cnfd tells it."""
    daemon = wired.daemon("n0", control={"group": "nosuchgroup"})
    assert same_cause(daemon)[0] == "control.socket"


def test_a_file_in_place_of_the_socket(wired: Node) -> None:
    """A file where the control socket should be stops both, and stays."""
    daemon = wired.daemon("n0")
    daemon.socket.write_text("precious", encoding="utf-8")
    assert same_cause(daemon)[0] == "control.socket"
    assert daemon.socket.read_text(encoding="utf-8") == "precious"


def test_a_folder_for_the_socket_that_cannot_be_written(wired: Node, stage: Stage) -> None:
    """Without the right to make the socket's file both end with the matter of privilege that it is."""
    daemon = wired.daemon("n0")
    daemon.command = stage.command("cnf.cnfd", *CAPABLE)
    name, finding = same_cause(daemon, stage.command("cnf.cli", *CAPABLE))
    assert name == "control.socket"
    assert "Permission denied" in finding["seen"]


def test_a_stranger_on_the_control_socket(wired: Node) -> None:
    """Somebody else who listens on the control socket is no cnfd: both name the socket, and end with 69."""
    daemon = wired.daemon("n0")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(daemon.socket))
        stranger.listen()
        status, line = daemon.refused()
        report = examined(daemon)
    assert report.status == status == 69
    assert report.problems.keys() == {"control.socket"}
    for text in (line, report.problems["control.socket"]["seen"]):
        assert str(daemon.socket) in text


def test_a_port_that_is_taken(wired: Node) -> None:
    """A metrics port that somebody else listens on is named by both, also while a cnfd runs next to it."""
    daemon = wired.daemon("n0")
    with wired.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as stranger:
        stranger.bind(("127.0.0.1", 9995))
        stranger.listen()
        name, finding = same_cause(daemon)
    assert name == "metrics.listen"
    assert "ss -ltnp" in finding["remedy"]


def test_a_control_socket_that_was_changed(wired: Node) -> None:
    """The daemon that still listens at the one before is not taken for somebody else's."""
    daemon = wired.daemon("n0").start()
    new = f"{daemon.socket}.new"
    daemon.configure([{"name": "n0"}], control={"socket": new})
    report = examined(daemon)
    assert report.problems.keys() == {"daemon"}
    assert report.found["daemon"]["seen"].endswith(
        f"(pid {daemon.pid}) runs in this network namespace, and does not answer at {new}"
    )
    assert "systemctl restart cnfd" in report.found["daemon"]["remedy"]


def test_another_daemon(wired: Node) -> None:
    """A cnfd with another configuration in the same namespace stops both; its lock can be asked for any often."""
    wired.daemon("n0").start()
    wired.wire("n1")
    second = wired.daemon("n1")
    for _ in range(4):
        report = examined(second)
        assert report.problems.keys() == {"daemon"}
    status, line = second.refused()
    assert report.status == status == 69
    assert "runs in this network namespace" in line
    assert "runs in this network namespace" in report.problems["daemon"]["seen"]


def test_a_daemon_of_another_namespace(wired: Node) -> None:
    """A cnfd that holds the control socket from another namespace stops both, in the same words."""
    daemon = wired.daemon("n0").start()
    second = wired.daemon("far1", control={"socket": str(daemon.socket)})
    second.namespace = wired.outside
    assert same_cause(second)[0] == "control.socket"
    assert daemon.is_running()


def test_a_program_that_a_killed_daemon_left(wired: Node) -> None:
    """What a killed cnfd left on an interface is known to be cnfd's, and stops neither."""
    daemon = wired.daemon("n0").start()
    number = daemon.interfaces()["n0"]["program_id"]
    daemon.signal(SIGKILL)
    daemon.ended()
    report = examined(daemon)
    assert report.status == 0
    assert f"cnfd's program {number} (native)" in report.found["interface n0"]["seen"]
    daemon.start().attached("n0")


def test_a_foreign_program_above(wired: Node) -> None:
    """The kernel takes no program on a port while its bridge has one; the doctor says so before cnfd finds out."""
    wired.inside.ip("link", "add", "br0", "type", "bridge")
    wired.inside.ip("link", "set", "n0", "master", "br0")
    daemon = wired.daemon("n0")
    with foreign_program() as foreign:
        foreign.attach(wired.inside, "br0", "generic")
        assert same_cause(daemon)[0] == "interface n0"


def test_a_foreign_program(wired: Node) -> None:
    """A foreign program is named by both with its id, and stays."""
    daemon = wired.daemon("n0")
    with foreign_program() as foreign:
        foreign.attach(wired.inside, "n0")
        name, finding = same_cause(daemon)
        assert wired.inside.programs() == {"n0": foreign.id}
    assert name == "interface n0"
    assert f"program {foreign.id} (native, named foreign)" in finding["seen"]
    assert f"bpftool prog show id {foreign.id}" in finding["remedy"]


def test_the_remedy_takes_a_foreign_program_off(wired: Node) -> None:
    """The command that the doctor names for a foreign program does what it says."""
    with foreign_program() as foreign:
        foreign.attach(wired.inside, "n0")
        report = examined(wired.daemon("n0"))
        command = report.problems["interface n0"]["remedy"].partition("take it off: ip ")[2]
        wired.inside.ip(*command.split())
    assert wired.inside.programs() == {}


def test_a_foreign_program_on_one_of_two(wired: Node) -> None:
    """One interface with a foreign program is a warning, and cnfd does start for the other one."""
    wired.wire("n1")
    daemon = wired.daemon("n0", "n1")
    with foreign_program() as foreign:
        foreign.attach(wired.inside, "n0")
        report = examined(daemon)
        assert report.status == 0
        assert report.found["interface n0"]["state"] == "warning"
        assert str(foreign.id) in report.found["interface n0"]["seen"]
        daemon.start().attached("n1")


@pytest.mark.parametrize("mtu", [MOST, MOST + 1, 9000])
def test_mtu(node: Node, mtu: int) -> None:
    """What the doctor expects of native XDP on a veth pair is what cnfd gets, at the limit and above it."""
    node.wire("n0", mtu)
    daemon = node.daemon("n0")
    report = examined(daemon)
    assert report.status == (0 if mtu <= MOST else 71)
    if report.status:
        assert daemon.refused()[0] == report.status
    else:
        assert report.found["interface n0"]["seen"].endswith("native XDP")
        assert daemon.start().interfaces()["n0"]["mode"] == "native"


def test_mtu_in_mode_native(node: Node) -> None:
    """Mode native on a veth pair with large MTU ends both with 71, on that interface and for its MTU."""
    node.wire("n0", 9000)
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "native"}])
    status, line = daemon.refused()
    report = examined(daemon)
    assert report.status == status == 71
    assert report.problems.keys() == {"interface n0"}
    assert "native" in line
    assert "MTU is too large" in line
    assert "native XDP: " in report.problems["interface n0"]["seen"]
    assert "MTU 9000" in report.problems["interface n0"]["seen"]


def test_mtu_of_the_other_end(node: Node) -> None:
    """When the other end can be seen, its MTU decides and not this one's."""
    node.inside.ip("link", "add", "n0", "type", "veth", "peer", "name", "n1")
    node.inside.ip("link", "set", "n1", "mtu", "9000")
    report = examined(node.daemon("n0", "n1"))
    assert "its other end has MTU 9000" in report.found["interface n0"]["seen"]
    assert report.found["interface n1"]["seen"] == "veth, MTU 9000: native XDP"


def test_a_missing_interface(node: Node) -> None:
    """An interface that is missing is a warning, and cnfd does start."""
    daemon = node.daemon("n0")
    report = examined(daemon)
    assert report.status == 0
    assert report.found["interface n0"]["state"] == "warning"
    daemon.start()


def test_an_interface_without_ethernet(node: Node) -> None:
    """With XDP an interface whose frames have no Ethernet header is refused by both, in the same words."""
    node.inside.ip("tuntap", "add", "t0", "mode", "tun")
    assert same_cause(node.daemon("t0"))[0] == "interface t0"


def test_a_bridge_and_its_member(wired: Node) -> None:
    """The drivers, what they offload, and who is a member of whom are read from the kernel, and told as cnfd does."""
    wired.inside.ip("link", "add", "br0", "type", "bridge")
    wired.inside.ip("link", "set", "n0", "master", "br0")
    with wired.inside.entered():
        seen = {nic.link.name: nic for nic in nics()}
    assert (seen["n0"].driver, seen["br0"].driver) == ("veth", "bridge")
    assert seen["n0"].link.master == seen["br0"].link.index
    assert (seen["n0"].rx_vlan, seen["br0"].rx_vlan) == (True, False)
    assert (seen["n0"].tx_vlan, seen["n0"].lro, seen["n0"].peer) == (True, False, None)
    daemon = wired.daemon()
    daemon.configure([{"name": "n0"}, {"name": "br0", "mode": "generic"}])
    report = examined(daemon)
    assert report.status == 0
    assert "native XDP" in report.found["interface n0"]["seen"]
    assert "is counted, and charged to limits, on n0 and here once more" in report.found["interface br0"]["seen"]
    assert "the other end" in report.found["vlan tags"]["remedy"]


def test_odd_names(node: Node) -> None:
    """Interfaces whose names are no text, or want quoting, are looked at like any other."""
    node.wire(b'q"x\\y')
    node.wire(b"\xff\xfe")
    report = examined(node.daemon("*"))
    assert report.status == 0
    assert len([name for name in report.found if name.startswith("interface ")]) == 2


@pytest.mark.parametrize("limiter", [None, LimiterSize(20_000, 64, 64)], ids=["no limits", "limits"])
@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_memory_of_the_tables(table: Table, limiter: LimiterSize | None) -> None:
    """The memory that the doctor names for the tables is what the kernel accounts for them."""
    if tuple(map(int, platform.release().split(".")[:2])) < (6, 4):
        pytest.skip("kernels before 6.4 account for keys and values only")
    blueprint = Blueprint(50_000, table, limiter=limiter)
    datapath = load(blueprint)
    accounted = 0
    for name, fd in datapath.maps.items():
        if name.startswith(("flows", "flow_drops", "limit_sources", "limit_over", "events", "interface")):
            shown = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
            accounted += int(shown.partition("memlock:")[2].split()[0])
    datapath.close()
    named = sizes.flow_bytes(blueprint) + sizes.interface_bytes(blueprint)
    named += sizes.source_bytes(blueprint, limiter.sources) if limiter else 0
    assert abs(named / accounted - 1) < 0.01


def _with_path(daemon: Daemon, folder: Path) -> Daemon:
    """Have the daemon, and the doctor, look for modules in ``folder`` first."""
    daemon.environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(PACKAGE.parent)))
    return daemon
