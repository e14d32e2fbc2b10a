"""What the doctor makes of cnfd.service as systemd has it; tests/system has systemd itself."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest

from cnf import config
from cnf.cli.doctor import socket_unit, unit
from cnf.cli.doctor.addresses import judge_collectors
from cnf.cli.doctor.report import Finding
from cnf.cli.doctor.socket_unit import Held
from cnf.limits.table import Limits
from cnf.recording import Export, History, Ipfix, JsonLines

SETTINGS = config.for_interfaces(["eth0"])
FILE = Path("/etc/passwd")
"""What every user may read."""
NOBODY = pwd.getpwuid(65534)
OURS = {
    "LoadState": "loaded",
    "FragmentPath": "/etc/systemd/system/cnfd.service",
    "NeedDaemonReload": "no",
    "ExecStart": f"{{ path={sys.executable} ; argv[]={sys.executable} --config {FILE} ; ignore_errors=no ; pid=0 }}",
    "User": "",
    "SupplementaryGroups": "",
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "cap_net_admin cap_perfmon cap_bpf",
    "ProtectSystem": "strict",
    "ProtectHome": "no",
    "PrivateTmp": "yes",
    "RuntimeDirectory": "cnf",
    "StateDirectory": "cnf",
    "ReadWritePaths": "",
    "IPAddressAllow": "127.0.0.0/8 ::1/128",
    "IPAddressDeny": "0.0.0.0/0 ::/0",
    "MemoryMax": "infinity",
    "EffectiveMemoryMax": "25276518400",
}
AS_NOBODY = {"User": NOBODY.pw_name, "AmbientCapabilities": OURS["CapabilityBoundingSet"]}


def judged(settings: config.Settings = SETTINGS, **changed: str) -> list[Finding]:
    """Return what is said of our unit with some properties ``changed``."""
    return list(unit.judge(OURS | changed, settings, FILE))


def only(found: Iterable[Finding]) -> tuple[str, int, str, str | None]:
    """Return the one finding's state, exit status, text and remedy."""
    (finding,) = found
    assert finding.name == "service"
    return finding.state, finding.exit_status, finding.seen, finding.remedy


def listening(listen: str) -> config.Settings:
    """Return settings with another address for the metrics."""
    return attrs.evolve(SETTINGS, metrics=config.Metrics(listen))


def with_control(**options: Any) -> config.Settings:  # noqa: ANN401 - options of any type
    """Return settings with another table ``[control]``."""
    return attrs.evolve(SETTINGS, control=config.Control(**options))


def with_state(path: str) -> config.Settings:
    """Return settings with limits whose state is kept elsewhere."""
    return attrs.evolve(SETTINGS, limits=Limits(state_file=path))


def test_a_unit_that_fits() -> None:
    """Where nothing is amiss, what is started and as whom is shown."""
    seen = f"/etc/systemd/system/cnfd.service: starts {sys.executable} as user root"
    assert only(judged()) == ("ok", 0, seen, None)


def test_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no systemctl, or it fails, there is no unit."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unit.read() is None
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\necho LoadState=loaded\nexit 1\n", encoding="ascii")
    systemctl.chmod(0o755)
    assert unit.read() is None
    systemctl.write_text("#!/bin/sh\necho LoadState=loaded; echo ExecStart=a=b\n", encoding="ascii")
    assert unit.read() == {"LoadState": "loaded", "ExecStart": "a=b"}


def test_what_the_socket_unit_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Addresses of an active cnfd.socket are told apart; of one that is off, or not there, nothing is held."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert socket_unit.held() == Held()
    systemctl = tmp_path / "systemctl"
    listen = "Listen=[::1]:9100 (Stream)\nListen=/run/cnf/cnf.sock (Stream)\nListen=127.0.0.1:443 (Stream)"
    for state, expected in (
        ("inactive", Held()),
        ("active", Held(("[::1]:9100", "127.0.0.1:443"), ("/run/cnf/cnf.sock",))),
    ):
        systemctl.write_text(f"#!/bin/sh\necho '{listen}\nActiveState={state}'\n", encoding="ascii")
        systemctl.chmod(0o755)
        assert socket_unit.held() == expected


def test_what_systemd_listens_on_is_not_the_services() -> None:
    """The rights and the firewall of the service say nothing of the sockets that cnfd.socket holds."""
    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid != NOBODY.pw_gid and not entry.gr_mem)
    settings = attrs.evolve(with_control(group=group), metrics=config.Metrics("0.0.0.0:443"))
    unit_as_nobody = OURS | AS_NOBODY
    assert len(list(unit.judge(unit_as_nobody, settings, FILE))) == 3
    found = unit.judge(unit_as_nobody, settings, FILE, metrics_held=True, control_held=True)
    assert [each.state for each in found] == ["ok"]


def test_the_units_own_configuration() -> None:
    """The unit is held against the file that it starts cnfd with, and against no other."""
    assert unit.starts_with(OURS, FILE)
    assert not unit.starts_with(OURS, Path("/etc/cnf/cnf.toml"))
    assert not unit.starts_with(OURS | {"LoadState": "not-found"}, FILE)
    argv = f"argv[]={sys.executable} --config {FILE} --interface eth0 ;"
    assert not unit.starts_with(OURS | {"ExecStart": argv}, FILE)


@pytest.mark.parametrize(
    ("most", "effective", "expected"),
    [("infinity", "", None), ("100", "", 100), ("300", "200", 200), ("100", "200", 100), ("infinity", "200", 200)],
)
def test_memory_limit(most: str, effective: str, expected: int | None) -> None:
    """The smaller of the unit's own bound and the one of the slices around it counts, as far as systemd tells."""
    assert unit.memory_limit(OURS | {"MemoryMax": most, "EffectiveMemoryMax": effective}) == expected


def test_a_unit_that_systemd_has_not_read_again() -> None:
    """A unit that has changed on disk is said to want a daemon-reload, beside all else."""
    assert [(found.state, found.remedy) for found in judged(NeedDaemonReload="yes")] == [
        ("warning", "systemctl daemon-reload"),
        ("ok", None),
    ]


def test_a_command_that_is_not_there() -> None:
    """A command that cannot be run is a problem."""
    found = judged(ExecStart="{ path=/nosuch/cnfd ; argv[]=/nosuch/cnfd --config /x ; pid=0 }")
    assert [(each.state, each.exit_status, each.seen) for each in found[:1]] == [
        ("problem", 69, "ExecStart: /nosuch/cnfd cannot be run")
    ]


def test_a_user_that_is_not_there() -> None:
    """A user whom the machine does not have is a problem, and nothing more can be told."""
    assert only(judged(User="nosuchuser")) == ("problem", 69, "there is no user nosuchuser", "systemd-sysusers")


@pytest.mark.parametrize("key", ["AmbientCapabilities", "CapabilityBoundingSet"])
@pytest.mark.parametrize(
    ("rest", "missing", "expected"),
    [
        ("cap_net_admin cap_perfmon", "CAP_BPF", ("problem", 77)),
        ("cap_bpf cap_perfmon", "CAP_NET_ADMIN", ("problem", 77)),
        ("cap_net_admin cap_bpf", "CAP_PERFMON", ("warning", 0)),
    ],
)
def test_capabilities_of_a_user(key: str, rest: str, missing: str, expected: tuple[str, int]) -> None:
    """A user who is not root needs them in both sets; without CAP_PERFMON it is a warning."""
    state, status, seen, remedy = only(judged(SETTINGS, **AS_NOBODY | {key: rest}))
    assert (state, status) == expected
    assert f"no {missing}" in seen
    assert remedy == f"systemctl edit cnfd: [Service] AmbientCapabilities={missing}; CapabilityBoundingSet={missing}"


def test_capabilities_of_root() -> None:
    """Root has what it is bounded to, and no ambient ones."""
    state, _, seen, remedy = only(judged(CapabilityBoundingSet="cap_perfmon"))
    assert (state, seen) == ("problem", "the service has no CAP_NET_ADMIN and CAP_BPF")
    assert remedy == "systemctl edit cnfd: [Service] CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF"


def test_a_group_that_the_user_is_no_member_of() -> None:
    """The control socket cannot be given to a group that the service is not in; those that it has stay named."""
    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid != NOBODY.pw_gid and not entry.gr_mem)
    settings = with_control(group=group)
    state, status, seen, remedy = only(judged(settings, **AS_NOBODY))
    assert (state, status) == ("problem", 77)
    assert seen == f"control.group {group}: user {NOBODY.pw_name} is no member, and so cannot give it the socket"
    assert remedy == f"systemctl edit cnfd: [Service] SupplementaryGroups={group}"
    assert only(judged(settings, **AS_NOBODY, SupplementaryGroups=group))[0] == "ok"
    number = str(grp.getgrnam(group).gr_gid)
    assert only(judged(settings, **AS_NOBODY, SupplementaryGroups=f"nosuchgroup {number}"))[0] == "ok"
    assert only(judged(settings))[0] == "ok"
    own = grp.getgrgid(NOBODY.pw_gid).gr_name
    assert only(judged(with_control(group=own), **AS_NOBODY))[0] == "ok"


@pytest.mark.parametrize(
    ("listen", "state"),
    [("127.0.0.1:9995", "ok"), ("[::1]:9995", "ok"), ("localhost:9995", "ok"), ("nosuch.invalid:9995", "ok"),
     ("0.0.0.0:9995", "warning"), ("[::]:9995", "warning"), ("192.0.2.1:9995", "warning"),
     ("[fe80::1%lo]:9995", "warning")],
)  # fmt: skip
def test_a_firewall_around_the_metrics(listen: str, state: str) -> None:
    """An address that others reach gives no answer while the unit lets in this machine only."""
    settings = attrs.evolve(SETTINGS, metrics=attrs.evolve(SETTINGS.metrics, listen=listen))
    found = only(judged(settings))
    assert found[0] == state
    if state == "warning":
        assert found[2] == f"metrics.listen {listen}: only this machine gets an answer (IPAddressDeny=)"
        assert found[3] == "systemctl edit cnfd: [Service] IPAddressAllow= with the scraper's address"
    assert only(judged(settings, IPAddressAllow="127.0.0.0/8 192.0.2.7/32"))[0] == "ok"
    assert only(judged(settings, IPAddressAllow="", IPAddressDeny=""))[0] == "ok"


def test_a_firewall_before_a_collector() -> None:
    """The line to add names the address; a collector of this machine, or one that is allowed, needs none."""
    tables = (Ipfix("192.0.2.9:4739"), Ipfix("[2001:db8::9]:4739"), Ipfix("127.0.0.1:4739"), Ipfix("no.invalid:4739"))
    settings = attrs.evolve(SETTINGS, export=Export(ipfix=tables))
    found = judged(settings)

    assert [each.state for each in found] == ["warning", "warning"]
    assert found[0].seen == "export.ipfix 192.0.2.9:4739: IPAddressDeny= refuses what is sent to 192.0.2.9"
    assert found[0].remedy == "systemctl edit cnfd: [Service] IPAddressAllow=192.0.2.9"
    assert only(judged(settings, IPAddressAllow="127.0.0.0/8 192.0.2.0/24 2001:db8::9/128"))[0] == "ok"
    assert only(judged(settings, IPAddressAllow="", IPAddressDeny=""))[0] == "ok"


def test_the_names_of_collectors_are_looked_up() -> None:
    """One that nobody knows is a warning with its remedy; cnfd starts all the same."""
    known, unknown = judge_collectors(["127.0.0.1:4739", "no.invalid:4739"])

    assert (known.state, known.seen) == ("ok", "127.0.0.1:4739: 127.0.0.1")
    assert (unknown.state, unknown.exit_status) == ("warning", 0)
    assert unknown.seen.startswith("no.invalid:4739: ")


def test_a_low_port() -> None:
    """A port below 1024 takes a capability that the unit does not have."""
    found = only(judged(listening("127.0.0.1:1023"), **AS_NOBODY))
    assert found[:2] == ("problem", 77)
    assert found[3] == "choose a port from 1024 on"
    assert only(judged(listening("127.0.0.1:1024"), **AS_NOBODY))[0] == "ok"
    more = "cap_net_bind_service cap_net_admin cap_perfmon cap_bpf"
    assert only(judged(listening("127.0.0.1:1023"), CapabilityBoundingSet=more))[0] == "ok"
    assert only(judged(listening("127.0.0.1:1023")))[0] == "problem"


@pytest.mark.parametrize(
    ("path", "options", "state"),
    [
        ("/run/cnf/a.sock", {}, "ok"),
        ("/var/lib/cnf/a.sock", {}, "ok"),
        ("/run/cnf2/a.sock", {}, "problem"),
        ("/srv/a.sock", {}, "problem"),
        ("/srv/a.sock", {"ReadWritePaths": "/opt -/srv"}, "ok"),
        ("/srv/a.sock", {"ProtectSystem": "full"}, "ok"),
        ("/root/a.sock", {"ReadWritePaths": "/root", "ProtectHome": "yes"}, "problem"),
        ("/var/tmp/a.sock", {}, "warning"),  # noqa: S108 - what PrivateTmp= is about
        ("/var/tmp/a.sock", {"PrivateTmp": "no"}, "problem"),  # noqa: S108
    ],
)
def test_where_the_socket_can_be(path: str, options: dict[str, str], state: str) -> None:
    """The service can make its socket in its own folders, and in those that the unit opens."""
    found = only(judged(with_control(socket=path), **options))
    assert found[:2] == (state, 77 if state == "problem" else 0)
    if state == "problem":
        folder = os.path.dirname(path)  # noqa: PTH120 - a text
        assert found[2] == f"control.socket {path}: read-only for the service"
        assert found[3] == f"install -d -o root {folder}; systemctl edit cnfd: [Service] ReadWritePaths={folder}"


def test_where_the_history_can_be() -> None:
    """A folder that the service cannot write does not stop it, but no minute would be kept."""
    elsewhere = attrs.evolve(SETTINGS, history=History(folder="/srv/history"))
    state, status, seen, remedy = only(judged(elsewhere))
    assert (state, status) == ("warning", 0)
    assert seen == "history.folder /srv/history: read-only for the service; no minute would be kept"
    assert remedy is not None
    assert "ReadWritePaths=/srv/history" in remedy
    assert only(judged(attrs.evolve(SETTINGS, history=History(keep=0.0, folder="/srv/history"))))[0] == "ok"


def test_where_the_state_can_be() -> None:
    """A state file that the service cannot write does not stop it, but changes would not outlive a restart."""
    assert only(judged(with_state("/var/lib/cnf/limits.json")))[0] == "ok"
    state, status, seen, _ = only(judged(with_state("/srv/limits.json")))
    assert (state, status) == ("warning", 0)
    assert "would not outlive a restart" in seen


@pytest.mark.parametrize(
    ("path", "options", "state"),
    [
        ("/var/lib/cnf/flows.jsonl", {}, "ok"),
        ("/srv/flows.jsonl", {}, "warning"),
        ("/srv/flows.jsonl", {"ReadWritePaths": "/srv"}, "ok"),
        ("/var/log/cnf/flows.jsonl", {"LogsDirectory": "cnf"}, "ok"),
    ],
)
def test_where_records_can_be_written(path: str, options: dict[str, str], state: str) -> None:
    """A file of records that the service cannot write does not stop it, but they would be lost."""
    settings = attrs.evolve(SETTINGS, export=Export(json=JsonLines(file=path)))
    found = only(judged(settings, **options))
    assert found[0] == state
    if state == "warning":
        assert found[2] == f"export.json.file {path}: read-only for the service; flow records would be lost"
        assert found[3] == "install -d -o root /srv; systemctl edit cnfd: [Service] ReadWritePaths=/srv"


@pytest.fixture
def everyones() -> Iterator[Path]:
    """Return a folder that every user may look into."""
    with TemporaryDirectory(prefix="cnf-t-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_web_configuration_that_the_service_cannot_read(everyones: Path) -> None:
    """The file, or the key that it names, is a problem if the service's user may not read it, or does not see it."""
    web, key = everyones / "web.yml", everyones / "web.key"
    web.write_text(f"tls_server_config: {{cert_file: {FILE}, key_file: web.key}}", encoding="ascii")
    key.touch(0o600)
    settings = attrs.evolve(SETTINGS, metrics=config.Metrics(web_config=str(web)))
    state, status, seen, remedy = only(judged(settings, **AS_NOBODY))
    assert (state, status) == ("problem", 77)
    assert seen == f"{key}: user {NOBODY.pw_name} may not read it"
    assert remedy is not None
    assert f"chmod 640 {key}" in remedy
    key.chmod(0o644)
    assert only(judged(settings, **AS_NOBODY))[0] == "ok"

    at_home = attrs.evolve(SETTINGS, metrics=config.Metrics(web_config=str(web)))
    web.write_text("tls_server_config: {cert_file: /root/web.crt, key_file: /root/web.key}", encoding="ascii")
    found = judged(at_home, ProtectHome="yes")
    assert [each.remedy for each in found] == ["keep it in /etc/cnf"] * 2


def test_a_configuration_at_home() -> None:
    """A configuration in a folder that is empty for the service is a problem, and where it can be is said."""
    (found,) = unit.judge(OURS | {"ProtectHome": "yes"}, SETTINGS, Path("/root/cnf.toml"))
    assert (found.state, found.exit_status, found.remedy) == ("problem", 78, "keep it in /etc/cnf")
