"""What the doctor makes of what it sees, and how it says it; tests/net has the machine's side."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from cnf import config
from cnf.cli import main
from cnf.cli.api.client import Client
from cnf.cli.doctor import command, socket_unit, unit
from cnf.cli.doctor.footprint import Room, daemon_bytes, judge_memory, set_prefixes
from cnf.cli.doctor.report import Finding, exit_status_of, page
from cnf.cli.show.table import Style
from cnf.datapath import build, installed_bcc, sizes
from cnf.datapath.blueprint import Blueprint, plan
from cnf.errors import PrivilegeError
from cnf.kernel import pins, probe
from cnf.kernel.links import Link, Program
from cnf.kernel.nics import Nic
from cnf.kernel.probe import Answer
from cnf.limits.table import NO_TABLE, Limits, PrefixSet
from cnf.server.sockets import address_of
from tests.unit.cli.samples import STATUS
from tests.unit.cli.terminal import on_terminal
from tests.unit.plain_user import open_folder, plain_user

ETHERNET, LOOPBACK, NONE = 1, 772, 65534  # ARPHRD_ of linux/if_arp.h
MOST = os.sysconf("SC_PAGE_SIZE") - 590
SETTINGS = config.for_interfaces(["eth0"])
PLAIN = Style(coloured=False)
PLENTY = Room("available", 1 << 40)

OK = Finding("kernel", "ok", "Linux 6.18.0")
REMARK = Finding("jit", "warning", "off", "sysctl -w net.core.bpf_jit_enable=1")
OPEN = Finding("lockdown", "unknown", "not shown here")
PROBLEM = Finding("bcc", "problem", "BCC is missing", "install python3-bpfcc", os.EX_UNAVAILABLE)


@pytest.fixture(autouse=True)
def _compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program compile and load at once: tests/net has it done."""
    monkeypatch.setattr(build, "load", lambda _: ExitStack())


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command and return its exit status and its findings by name."""
    status = main(["doctor", "-o", "json", *arguments])
    report = json.loads(capsys.readouterr().out)
    assert report["would_start"] == (status == 0)
    return status, {finding["name"]: finding for finding in report["findings"]}


def configured(folder: Path, text: str) -> str:
    """Write a configuration with an interface and ``text``, and return its path."""
    file = folder / "cnf.toml"
    file.write_text(f'[[interfaces]]\nname = "nosuch0"\n{text}\n', encoding="utf-8")
    return str(file)


def test_page() -> None:
    """Each finding is one aligned line, with its remedy below it, and the verdict comes last."""
    assert list(page([OK, REMARK, OPEN, PROBLEM], None, PLAIN)) == [
        "ok       kernel    Linux 6.18.0",
        "warning  jit       off",
        "         -> sysctl -w net.core.bpf_jit_enable=1",
        "unknown  lockdown  not shown here",
        "problem  bcc       BCC is missing",
        "         -> install python3-bpfcc",
        "cnfd would not start: 1 problem",
    ]


def test_page_fits_a_terminal() -> None:
    """On 80 columns lines are folded under their own beginning; a word is never cut, so that it can be copied."""
    lines = list(page([Finding("bcc", "problem", "word " * 30, "do it " * 20)], 80, PLAIN))
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith(" " * len("problem  bcc  ") + "word")
    path = "/long" * 20
    assert sum(path in line for line in page([Finding("bcc", "problem", "x", f"rm {path}")], 80, PLAIN)) == 1


def test_page_cannot_control_the_terminal() -> None:
    """Control characters in names, findings and remedies are escaped."""
    hostile = Finding("a\x1b[2J", "warning", "b\x9bm", "c\n")
    assert all(line.isprintable() for line in page([hostile], None, PLAIN))


def test_colour() -> None:
    """On a terminal the mark is coloured, and nothing else but the verdict stands out."""
    lines = list(page([OK, PROBLEM], None, Style(coloured=True)))
    assert lines[0] == "\x1b[2mok     \x1b[m  kernel  Linux 6.18.0"
    assert lines[1] == "\x1b[33mproblem\x1b[m  bcc     BCC is missing"


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [((), 0), ((0, 0), 0), ((71, 78, 69, 77), 77), ((71, 78, 69), 69), ((71, 78), 78), ((0, 71), 71)],
)
def test_exit_status(statuses: tuple[int, ...], expected: int) -> None:
    """Privilege comes before software, configuration and kernel; what does not stop cnfd does not count."""
    assert exit_status_of(Finding("x", "problem", "y", exit_status=status) for status in statuses) == expected


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([OK, REMARK, OPEN], "cnfd would start"),
        ([PROBLEM, PROBLEM, REMARK], "cnfd would not start: 2 problems"),
        ([Finding("program", "unknown", "x", exit_status=71)], "could not tell whether cnfd would start: program"),
    ],
)
def test_verdict(found: list[Finding], verdict: str) -> None:
    """Warnings, and what is merely not known, do not speak against a start; what is not known and needed does."""
    assert list(page(found, None, PLAIN))[-1] == verdict


def test_memory() -> None:
    """A start that does not fit is a problem, a daemon that would not fit once its tables are full is a warning."""
    settings = attrs.evolve(SETTINGS, flows=config.Flows(max_entries=1_000_000))
    tables = sizes.flow_bytes(plan(settings)) + sizes.interface_bytes(plan(settings))
    tables += sizes.source_bytes(plan(settings), 16_384)
    start, full = tables + 120_000_000, tables + 95_000_000 + 2_000_000 * (300 + 2 * 110) + 2 * 16_384 * 320
    for there, state, status in (
        (start - 1, "problem", 71),
        (start, "warning", 0),
        (full - 1, "warning", 0),
        (full, "ok", 0),
    ):
        found = judge_memory(settings, Room("available", there))
        assert (found.state, found.exit_status) == (state, status)
        assert (found.remedy is None) == (state == "ok")


def test_memory_of_a_cgroup() -> None:
    """What bounds the memory is named, with both ways out."""
    found = judge_memory(SETTINGS, Room("MemoryMax=", 160 << 20, "raise it: systemctl edit cnfd"))
    assert (found.state, found.exit_status) == ("problem", 71)
    assert found.seen.endswith("; MemoryMax= 168 MB")
    assert found.remedy == "raise it: systemctl edit cnfd; or lower flows.max_entries, it is 262144"


def test_one_family_takes_less_memory() -> None:
    """Without IPv6 there is no table for it, and half the flows."""
    both = judge_memory(SETTINGS, PLENTY)
    one = judge_memory(attrs.evolve(SETTINGS, flows=config.Flows(ipv6=False)), PLENTY)
    assert both.seen != one.seen
    assert sizes.flow_bytes(Blueprint(1024, ipv6=False)) * 2 < sizes.flow_bytes(Blueprint(1024))


def test_limits_take_memory_too() -> None:
    """The tables of sources are counted, and the option that makes them smaller is named."""
    without = judge_memory(SETTINGS, PLENTY)
    found = judge_memory(attrs.evolve(SETTINGS, limits=Limits(max_sources=1 << 24)), Room("available", 1))
    assert without.seen != found.seen
    assert (found.state, found.remedy) == (
        "problem",
        "lower flows.max_entries, it is 262144, or limits.max_sources, it is 16777216",
    )
    assert sizes.source_bytes(Blueprint(1024), 1 << 24) > (1 << 25) * 150


@pytest.mark.parametrize(
    ("number", "works"),
    [(errno.EINVAL, False), (errno.ENOSYS, False), (524, False), (errno.EPERM, None), (errno.ENOMEM, None)],
)
def test_answer_of_the_kernel(number: int, works: bool | None) -> None:  # noqa: FBT001 - a column of the table
    """An errno that means "never heard of it" is a no; any other refusal leaves the question open, with its words."""

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    answer = probe.attempt(refuse)
    assert answer.works is works
    assert answer.words
    assert probe.attempt(lambda: None) == Answer(works=True)


def test_examination_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A probe that fails in a way nobody thought of is "unknown", with its reason, and the rest goes on."""

    def fail() -> str:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(installed_bcc, "bcc_version", fail)
    monkeypatch.setattr(probe, "lockdown", fail)
    status, found = asked(capsys, "--interface", "nosuch0")
    assert status in (os.EX_NOPERM, os.EX_UNAVAILABLE)
    for name in ("lockdown", "bcc"):
        assert found[name]["state"] == "unknown"
        assert "what nobody thought of" in found[name]["seen"]
    assert found["program"]["state"] == "unknown"
    assert found["configuration"]["state"] == "ok"
    assert found["interface nosuch0"]["state"] == "warning"


def test_every_problem_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem of the file is a finding of its own, and what depends on the file is not guessed at."""
    file = configured(tmp_path, '[flows]\nmax_entrys = 5\n[log]\nlevel = "loud"')
    assert main(["doctor", "-o", "json", "--config", file]) != 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    seen = [finding["seen"] for finding in findings if finding["name"] == "configuration"]
    assert [text.partition(": ")[0] for text in seen] == [file, file]
    assert "flows.max_entrys" in seen[0]
    assert "log.level" in seen[1]
    assert not {"memory", "control.socket", "metrics.listen"} & {finding["name"] for finding in findings}


def test_a_file_full_of_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many problems the first twenty are findings, and one more counts the others."""
    file = configured(tmp_path, "".join(f"key{number} = 1\n" for number in range(100)))
    main(["doctor", "-o", "json", "--config", file])
    findings = json.loads(capsys.readouterr().out)["findings"]
    seen = [finding["seen"] for finding in findings if finding["name"] == "configuration"]
    assert (len(seen), seen[-1]) == (21, f"{file}: 80 more problems")


def test_interface_beside_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--interface`` stands in for the file's interfaces, and the rest of the file holds."""
    file = configured(tmp_path, f'[control]\nsocket = "{tmp_path}/a.sock"')
    _, found = asked(capsys, "--config", file, "--interface", "nosuch1")
    assert "interface nosuch1" in found
    assert "interface nosuch0" not in found
    assert found["configuration"]["seen"] == f"{file} and command line is valid"
    assert str(tmp_path) in found["control.socket"]["seen"]


def test_socket_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A socket file that nobody listens on does not stop cnfd, and is left where it is."""
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    _, found = asked(capsys, "--config", configured(tmp_path, f'[control]\nsocket = "{path}"'))
    assert (found["control.socket"]["state"], found["control.socket"]["seen"]) == ("ok", f"{path} is free")
    assert path.is_socket()


def test_whole_command_on_a_terminal(tmp_path: Path) -> None:
    """The command shows its table on a terminal, coloured, with the verdict as its last line."""
    file = configured(tmp_path, f'[control]\nsocket = "{tmp_path}/a.sock"')
    with on_terminal(["doctor", "--config", file]) as terminal:
        status = terminal.end()
    text = terminal.seen.decode()
    assert "Traceback" not in text
    assert "\x1b[33mwarning\x1b[m  interface nosuch0" in text
    last = text.splitlines()[-1]
    assert last == "\x1b[1mcnfd would start\x1b[m" if status == 0 else "would not start" in last


@pytest.mark.parametrize(
    ("release", "state"),
    [("5.18.0", "ok"), ("6.1.0-49-amd64", "ok"), ("10.0", "ok"), ("5.17.15", "warning"), ("4.19.0", "warning")],
)
def test_age_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], release: str, state: str
) -> None:
    """Kernels before 5.18 are a warning, and what was tried decides."""
    monkeypatch.setattr("platform.release", lambda: release)
    _, found = asked(capsys, "--interface", "nosuch0")
    assert found["kernel"]["state"] == state
    assert release in found["kernel"]["seen"]


def test_one_family_has_half_the_flows() -> None:
    """Without IPv6 cnfd takes less for flows, and as much for sources, of which IPv6 has its own either way."""
    both, one = config.Flows(max_entries=1000), config.Flows(max_entries=1000, ipv6=False)
    few, more = Limits(max_sources=1000), Limits(max_sources=2000)
    assert daemon_bytes(both, few)[0] - daemon_bytes(one, few)[0] == 1000 * 300
    assert daemon_bytes(one, more)[0] - daemon_bytes(one, few)[0] == 2 * 1000 * 320


def test_prefixes_of_sets_are_counted(tmp_path: Path) -> None:
    """Of the files that can be read; no other one holds anybody up."""
    texts = {"feed": "10.0.0.0/8\n::1-::4\n", "wrong": "nonsense\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "pipe")
    sets = [PrefixSet(name, str(tmp_path / name), "deny") for name in (*texts, "pipe", "missing")]
    assert set_prefixes(Limits(sets=tuple(sets))) == 4
    assert set_prefixes(NO_TABLE) == 0
    with_sets, without = (daemon_bytes(config.Flows(), NO_TABLE, count)[0] for count in (1000, 0))
    assert with_sets - without == 1000 * 160


def test_the_smaller_memory_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what the machine has available and what the cgroup may have, the smaller one is held against the tables."""
    monkeypatch.setattr(unit, "read", lambda: None)
    for available, limit, seen in ((9 << 30, 8 << 30, "this cgroup may have 8.6 GB"), (7 << 30, 8 << 30, "7.5 GB")):
        monkeypatch.setattr(probe, "available_memory", lambda available=available: available)
        monkeypatch.setattr(probe, "memory_limit", lambda limit=limit: limit)
        _, found = asked(capsys, "--interface", "nosuch0")
        assert found["memory"]["seen"].endswith(seen)
    monkeypatch.setattr(probe, "memory_limit", lambda: None)
    _, found = asked(capsys, "--interface", "nosuch0")
    assert found["memory"]["seen"].endswith("available 7.5 GB")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, ("ok", "not needed: systemd does not run here", None)),
        ({"LoadState": "not-found"}, ("warning", "cnfd.service is not installed", "sh deploy/install.sh")),
        ({"LoadState": "masked"}, ("warning", "cnfd.service is masked", "systemctl unmask cnfd")),
        (
            {
                "LoadState": "loaded",
                "FragmentPath": "/u",
                "ExecStart": "{ argv[]=/cnfd --config /etc/cnf/cnf.toml ; }",
                "MemoryMax": "1",
            },
            ("ok", "/u is installed, for another configuration", None),
        ),
    ],
)
def test_a_unit_that_is_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: dict[str, str] | None,
    expected: tuple[str, str, str | None],
) -> None:
    """Interfaces of the command line are no business of the unit, nor is its memory theirs."""
    monkeypatch.setattr(unit, "read", lambda: answer)
    _, found = asked(capsys, "--interface", "nosuch0")
    assert tuple(found["service"][key] for key in ("state", "seen", "remedy")) == expected
    assert "MemoryMax" not in found["memory"]["seen"]


def test_sockets_of_systemd(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cnfd.socket holds is no reason not to start, and nobody connects to it: that would start the service."""
    with socket.create_server(("127.0.0.1", 0)) as metrics, socket.socket(socket.AF_UNIX) as control:
        path, listen = str(tmp_path / "cnf.sock"), address_of(metrics)
        control.bind(path)
        control.listen()
        file = configured(tmp_path, f'[metrics]\nlisten = "{listen}"\n[control]\nsocket = "{path}"')
        service = {
            "LoadState": "loaded",
            "ActiveState": "inactive",
            "ExecStart": f"{{ argv[]=/cnfd --config {file} ; }}",
        }
        monkeypatch.setattr(unit, "read", lambda: service)
        monkeypatch.setattr(unit, "judge", lambda *_, **__: [OK])
        monkeypatch.setattr(pins, "folder", lambda: tmp_path / "none")
        monkeypatch.setattr(socket_unit, "held", lambda: socket_unit.Held((listen,), (path,)))
        _, found = asked(capsys, "--config", file)
        control.settimeout(0)
        with pytest.raises(BlockingIOError):
            control.accept()
    for name, address in (("metrics.listen", listen), ("control.socket", path)):
        assert (found[name]["state"], found[name]["seen"]) == ("ok", f"{address}: held by cnfd.socket")


def test_who_may_only_look_sees_the_daemon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """To a member of control.group the daemon that answers is the one that runs, though its pins are closed to him."""
    monkeypatch.setattr(Client, "status", lambda _client: STATUS)
    with open_folder() as folder:
        (folder / "cnf").mkdir(mode=0)
        monkeypatch.setattr(pins, "folder", lambda: folder / "cnf" / "netns-1")
        with plain_user():
            _, found = asked(capsys, "--interface", "nosuch0")
    assert found["control.socket"]["seen"].endswith("held by the cnfd that runs")
    assert found["daemon"]["seen"].startswith("cnfd ")


def test_who_may_not_ask_the_daemon_cannot_tell_its_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the control socket refuses this user, a program on an interface may be cnfd's, pinned or not."""

    def refuse(_client: object) -> None:
        raise PrivilegeError("/run/cnf/cnf.sock: Permission denied", remedy="run cnfctl as root")

    taken = Nic(Link(2, "eth0", ETHERNET, 1500, program=Program("native", 117)), driver="ice", native=True)
    monkeypatch.setattr(Client, "status", refuse)
    monkeypatch.setattr(command, "nics", lambda: [taken])
    monkeypatch.setattr(pins, "folder", lambda: tmp_path / "none")
    status, found = asked(capsys, "--interface", "eth0")
    assert status == os.EX_NOPERM
    assert (found["daemon"]["state"], found["daemon"]["remedy"]) == ("unknown", "run the doctor as root")
    assert found["interface eth0"]["state"] == "unknown"
    assert found["control.socket"]["remedy"] == "run cnfctl as root"
