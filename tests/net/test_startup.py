"""What ends the start of cnfd: one line with its remedy, an exit status, and nothing attached."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from signal import SIGTERM
from typing import Final

import pytest

import cnf
from cnf.datapath.blueprint import Blueprint
from cnf.datapath.build import load
from cnf.errors import VerifierError
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon
from tests.net.users import NOBODY, Stage, as_user, without

PACKAGE: Final = Path(cnf.__file__).parent
NEEDED: Final = ("CAP_NET_ADMIN", "CAP_BPF")
SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapAmb")
NET_ADMIN: Final = f"{1 << 12:016x}"
"""What /proc shows of a thread that has CAP_NET_ADMIN and no other."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("raise ImportError('no such module')", "BCC is missing: no such module", id="missing"),
        pytest.param("", "is not BCC but PyPI's package of that name", id="another package"),
    ],
)
def test_no_bcc(wired: Node, tmp_path: Path, content: str, says: str) -> None:
    """Without BCC, or with the package that PyPI has under its name, the line names the package to install."""
    (tmp_path / "bcc.py").write_text(content, encoding="utf-8")
    daemon = _with_path(wired.daemon("n0"), tmp_path)

    status, line = daemon.refused()

    assert status == 69
    assert says in line
    assert "python3-bpfcc" in line
    _check_untouched(wired, daemon)


def test_source_that_does_not_compile(wired: Node, tmp_path: Path) -> None:
    """A compiler error is quoted with its place, and the log level debug has all that the compiler said."""
    source = _copy(tmp_path) / "bpf" / "flow.c"
    source.write_text(source.read_text(encoding="utf-8").replace("return XDP_PASS;", "return XDP_PAST;"), "utf-8")
    daemon = _with_path(wired.daemon("n0"), tmp_path)

    status, line = daemon.refused()

    assert status == 71
    assert "flow.c" in line
    assert "XDP_PAST" in line
    assert "lines omitted" in line
    (details,) = daemon.events("details of the error")
    assert any("^" in shown for shown in details["lines"])
    _check_untouched(wired, daemon)


def test_program_that_the_verifier_rejects(wired: Node, tmp_path: Path) -> None:
    """A rejection is quoted with the verifier's verdict, and the log level debug has its whole log."""
    _read_past_the_end(_copy(tmp_path) / "bpf" / "flow.c")
    denying = {"deny": ["192.0.2.66"]}  # else the program without limits is tried, too
    daemon = _with_path(wired.daemon("n0", limits=denying), tmp_path)

    status, line = daemon.refused()

    assert status == 71
    assert "outside of the packet" in line
    assert "lines omitted" in line
    (details,) = daemon.events("details of the error")
    assert len(details["lines"]) > 3
    _check_untouched(wired, daemon)


def test_rejected_blueprint(tmp_path: Path) -> None:
    """Loaded in this process, it raises with the last useful line, and the verifier's log in the details."""
    source = _copy(tmp_path) / "bpf" / "flow.c"
    _read_past_the_end(source)

    with pytest.raises(VerifierError, match="outside of the packet") as caught:
        load(Blueprint(max_entries=64, source=source))

    assert "\n" not in str(caught.value)
    assert "invalid access to packet" in caught.value.details


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        pytest.param(("net_admin",), {"CAP_NET_ADMIN"}, id="CAP_NET_ADMIN"),
        pytest.param(("bpf", "sys_admin"), {"CAP_BPF"}, id="CAP_BPF"),
        pytest.param(("bpf", "sys_admin", "net_admin"), set(NEEDED), id="both"),
    ],
)
def test_a_missing_capability_is_named(wired: Node, dropped: tuple[str, ...], missing: set[str]) -> None:
    """Root without a capability is told which one it is, and how to get it."""
    daemon = wired.daemon("n0")
    daemon.command = ("setpriv", *without(*dropped), *CNFD)

    status, line = daemon.refused()

    assert status == 77
    assert _named(line) == missing
    assert "CapabilityBoundingSet" in line
    _check_untouched(wired, daemon)


def test_sys_admin_stands_in(wired: Node) -> None:
    """CAP_SYS_ADMIN does for CAP_BPF, as the kernel has it."""
    daemon = wired.daemon("n0")
    daemon.command = ("setpriv", *without("bpf"), *CNFD)

    daemon.start()

    daemon.attached("n0")


def test_a_plain_user_is_told_what_is_missing(wired: Node, stage: Stage) -> None:
    """A user without privileges ends with status 77 and the names of both capabilities."""
    daemon = wired.daemon("n0")
    daemon.command = stage.command("cnf.cnfd", *as_user())

    status, line = daemon.refused()

    assert status == 77
    assert _named(line) == set(NEEDED)
    _check_untouched(wired, daemon)


@pytest.mark.needs("limits without CAP_PERFMON")
def test_the_needed_capabilities_are_enough(wired: Node, stage: Stage) -> None:
    """The user nobody with just these two compiles, attaches, counts, limits, and takes everything back."""
    wire = wired.wire("n1")
    rule = {"name": "all", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 3}
    daemon = wired.daemon("n1", limits={"mode": "enforce", "rules": [rule]})
    os.chown(daemon.socket.parent, NOBODY, NOBODY)
    daemon.command = stage.command("cnf.cnfd", *as_user(capabilities=[_setprivs(name) for name in NEEDED]))
    daemon.start()
    assert f"Uid:\t{NOBODY}\t" in Path(f"/proc/{daemon.pid}/status").read_text(encoding="utf-8")

    wire.send([frame(IPv4(options=bytes(8)), UDP())] * 3 + [frame(IPv4(), UDP())] * 100)

    ledger = daemon.settle(103)["ledger"]["packets"]
    assert ledger["live"] + ledger["dropped"] == 103
    assert 3 <= ledger["live"] < 20
    daemon.signal(SIGTERM)
    assert daemon.ended() == 0
    _check_untouched(wired, daemon)


def test_what_only_loading_takes_is_dropped(wired: Node, stage: Stage) -> None:
    """With CAP_NET_ADMIN alone, a running daemon counts, limits, changes limits, reloads, attaches, and detaches."""
    rule = {"name": "all", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 3}
    daemon = wired.daemon("n0", limits={"mode": "enforce", "rules": [rule]})
    os.chown(daemon.socket.parent, NOBODY, NOBODY)
    daemon.command = stage.command("cnf.cnfd", *as_user(capabilities=("bpf", "net_admin", "perfmon")))
    daemon.start()

    (dropped,) = daemon.events("capabilities dropped")
    assert set(dropped["names"]) == {"CAP_BPF", "CAP_PERFMON"}
    threads = [path.read_text(encoding="ascii") for path in Path(f"/proc/{daemon.pid}/task").glob("*/status")]
    assert len(threads) > 1
    for status in threads:
        assert dict(re.findall(r"(Cap(?:Inh|Prm|Eff|Amb)):\t(\w+)", status)) == dict.fromkeys(SETS, NET_ADMIN)

    wire = wired.wire("n1")
    daemon.reload([{"name": "n*"}], limits={"mode": "enforce", "rules": [rule | {"burst_packets": 5}]})
    daemon.attached("n0", "n1")
    daemon.limits("deny", "add", "192.0.2.0/24")
    wire.send([frame(IPv4("192.0.2.1"), UDP())] * 4 + [frame(IPv4("10.0.0.1"), UDP())] * 3)
    ledger = daemon.settle(7)["ledger"]["packets"]
    assert (ledger["live"], ledger["dropped"], ledger["difference"]) == (3, 4, 0)
    daemon.stop()
    _check_untouched(wired, daemon)


def test_a_configuration_that_cannot_be_read(wired: Node, stage: Stage) -> None:
    """A file that this user may not read is a matter of privilege, not of configuration."""
    daemon = wired.daemon("n0")
    daemon.config.chmod(0o600)
    daemon.command = stage.command("cnf.cnfd", *as_user())

    status, line = daemon.refused()

    assert status == 77
    assert f"{daemon.config}: Permission denied" in line


def test_bad_configuration(wired: Node) -> None:
    """Every problem of a configuration stands in the one line, with its key path; nothing is attached."""
    daemon = wired.daemon("n0")
    daemon.configure([{"name": "n0", "mode": "fast"}], flows={"max_entrys": 5})

    status, line = daemon.refused()

    assert status == 78
    assert "interfaces[0].mode" in line
    assert "flows.max_entrys: unknown key, did you mean max_entries?" in line
    _check_untouched(wired, daemon)


def test_check_config(wired: Node) -> None:
    """``--check-config`` tells by its status whether the file is valid, and touches nothing."""
    daemon = wired.daemon("n0")
    good = _run("--config", str(daemon.config), "--check-config")
    assert (good.returncode, good.stderr) == (0, "")
    assert str(daemon.config) in good.stdout

    daemon.config.write_text("interfaces = 3\n", encoding="utf-8")
    bad = _run("--config", str(daemon.config), "--check-config")
    assert (bad.returncode, bad.stdout) == (78, "")
    assert "interfaces: expected" in bad.stderr


def test_version() -> None:
    """``--version`` prints the version, and nothing else."""
    shown = _run("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"cnfd {cnf.VERSION}\n", "")


def test_usage_error() -> None:
    """A command line that cannot be understood is one line, and status 64."""
    refused = _run("--interfaces")
    assert refused.returncode == 64
    assert refused.stderr.startswith("cnfd: ")
    assert refused.stderr.count("\n") == 1


def test_an_interface_on_the_command_line(wired: Node) -> None:
    """``--interface`` stands in for the file's interfaces, and the rest of the file holds."""
    daemon = wired.daemon("elsewhere")
    daemon.launch("--config", str(daemon.config), "--interface", "n0").wait_for_event("ready")

    daemon.attached("n0")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*CNFD, *arguments), capture_output=True, text=True, check=False, timeout=20)


def _copy(folder: Path) -> Path:
    """Return a copy of the package that a test may damage."""
    return shutil.copytree(PACKAGE, folder / "cnf")


def _with_path(daemon: Daemon, folder: Path) -> Daemon:
    """Have the daemon look for modules in ``folder`` first."""
    daemon.environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(PACKAGE.parent)))
    return daemon


def _read_past_the_end(source: Path) -> None:
    """Put a second entry point in place of cnf_clock: one that reads without looking where the packet ends."""
    text = source.read_text(encoding="utf-8").replace("int cnf_clock(", "int honest_clock(")
    greedy = "int cnf_clock(struct xdp_md *ctx)\n{\n\treturn *(__u8 *)(long)ctx->data;\n}\n"
    source.write_text(text + greedy, encoding="utf-8")


def _named(line: str) -> set[str]:
    """Return the capabilities that a message says are missing, before the remedy in its brackets."""
    return set(re.findall("CAP_[A-Z_]+", line.partition("(")[0]))


def _setprivs(capability: str) -> str:
    return capability.removeprefix("CAP_").lower()


def _check_untouched(node: Node, daemon: Daemon) -> None:
    assert node.inside.programs() == {}
    assert not daemon.socket.exists()
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")
