"""The unit cnfd.service as systemd has it in effect, held against the configuration: what the service will meet.

A look at the machine as root sees nothing of it: the service runs as another user, in a file system, under a firewall
and with a memory of its own.
"""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import pwd
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cnf import config
from cnf.cli.doctor.report import Finding
from cnf.datapath import program_file
from cnf.errors import CnfError
from cnf.kernel import capabilities
from cnf.server import web_config

NAME: Final = "cnfd.service"
PROPERTIES: Final = (
    "LoadState",
    "ActiveState",
    "FragmentPath",
    "NeedDaemonReload",
    "ExecStart",
    "User",
    "SupplementaryGroups",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "RuntimeDirectory",
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "ReadWritePaths",
    "IPAddressAllow",
    "IPAddressDeny",
    "MemoryMax",
    "EffectiveMemoryMax",
)
"""Properties asked of ``systemctl show``; one that a systemd does not know is left out of its answer."""
PATIENCE: Final = 10.0
HOMES: Final = ("/home", "/root", "/run/user")
TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 - what PrivateTmp= is about
UNPRIVILEGED_PORTS: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

Answer = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the service runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All of them, the primary one too."""


def read() -> Answer | None:
    """Return the properties of the unit; None where systemd does not run."""
    lines = show(NAME, *PROPERTIES)
    return dict(line.partition("=")[::2] for line in lines) if lines else None


def show(name: str, *properties: str) -> Sequence[str]:
    """Return the lines of ``systemctl show``, PROPERTY=VALUE; none where systemd does not run."""
    command = ("systemctl", "show", name, "--property", ",".join(properties))
    try:
        done = subprocess.run(  # noqa: S603 - constants
            command, capture_output=True, check=False, timeout=PATIENCE, encoding="utf-8", errors="surrogateescape"
        )
    except OSError:
        return ()
    return () if done.returncode else done.stdout.splitlines()


def is_installed(unit: Answer) -> bool:
    """Tell whether systemd knows the unit."""
    return unit.get("LoadState") == "loaded"


def is_active(unit: Answer) -> bool:
    """Tell whether the service runs, or is about to, or to end."""
    return unit.get("ActiveState") not in ("inactive", "failed")


def starts_with(unit: Answer, file: Path) -> bool:
    """Tell whether the unit starts cnfd with the configuration ``file``, and nothing on the command line besides."""
    return is_installed(unit) and _command(unit)[1:] == ["--config", str(file)]


def memory_limit(unit: Answer) -> int | None:
    """Return the bytes of memory that the unit may have; None for no bound."""
    bounds = [int(text) for name in ("MemoryMax", "EffectiveMemoryMax") if (text := unit.get(name, "")).isdecimal()]
    return min(bounds, default=None)


def programs(unit: Answer) -> tuple[Path, int]:
    """Return the folder in which the service keeps its program, and its user's number."""
    account = _account(unit.get("User") or "root", unit)
    names = unit.get("CacheDirectory", "").split()
    return Path("/var/cache", names[0]) if names else program_file.DEFAULT, account.uid if account else 0


def judge(
    unit: Answer, settings: config.Settings, file: Path, *, metrics_held: bool = False, control_held: bool = False
) -> Iterator[Finding]:
    """Name what the service would fail for, or do otherwise than its ``settings``, read from ``file``, say.

    What is ``held`` systemd listens on, with rights and a firewall that are not the service's.
    """
    path = unit["FragmentPath"]
    if unit.get("NeedDaemonReload") == "yes":
        yield Finding("service", "warning", f"{path} has changed since systemd read it", "systemctl daemon-reload")
    command = Path(next(iter(_command(unit)), ""))
    if not os.access(command, os.X_OK):
        yield _problem(f"ExecStart: {command} cannot be run", os.EX_UNAVAILABLE, "sudo sh deploy/install.sh")
    name = unit.get("User") or "root"
    account = _account(name, unit)
    if account is None:
        yield _problem(f"there is no user {name}", os.EX_UNAVAILABLE, "systemd-sysusers")
        return
    found = [
        *_capabilities(unit, account),
        *_files(unit, account, settings, file),
        *(() if control_held else _group(unit, account, settings.control.group)),
        *(() if metrics_held else _metrics(unit, account, settings.metrics)),
        *_collectors(unit, settings),
    ]
    yield from found or [Finding("service", "ok", f"{path}: starts {command} as user {name}")]


def _problem(seen: str, exit_status: int, remedy: str) -> Finding:
    return Finding("service", "problem", seen, remedy, exit_status)


def _edit(option: str) -> str:
    return f"systemctl edit cnfd: [Service] {option}"


def _command(unit: Answer) -> Sequence[str]:
    """Return the command line of ExecStart."""
    return unit.get("ExecStart", "").partition("argv[]=")[2].partition(" ;")[0].split()


def _account(name: str, unit: Answer) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = {*os.getgrouplist(entry.pw_name, entry.pw_gid), *map(_gid, unit.get("SupplementaryGroups", "").split())}
    return Account(name, entry.pw_uid, entry.pw_gid, tuple(sorted(groups - {-1})))


def _gid(group: str) -> int:
    """Return the number of a group, given by name or number; -1 if there is none."""
    try:
        return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        return -1


def _capabilities(unit: Answer, account: Account) -> Iterator[Finding]:
    where = ["CapabilityBoundingSet"] if account.uid == 0 else ["AmbientCapabilities", "CapabilityBoundingSet"]
    there = [unit.get(name, "").upper().split() for name in where]
    for names, slow in ((capabilities.NEEDED, False), (capabilities.SPEED, True)):
        missing = [name for name in names if not all(name in names_there for names_there in there)]
        remedy = _edit("; ".join(f"{name}={' '.join(missing)}" for name in where))
        if missing and slow:
            yield Finding("service", "warning", f"the service has no {missing[0]}: {capabilities.SLOW}", remedy)
        elif missing:
            yield _problem(f"the service has no {' and '.join(missing)}", os.EX_NOPERM, remedy)


def _files(unit: Answer, account: Account, settings: config.Settings, file: Path) -> Iterator[Finding]:
    if _hidden(unit, file):
        seen = f"{file}: the service does not see it, its {HOMES[0]} and {HOMES[1]} are empty"
        yield _problem(seen, os.EX_CONFIG, "keep it in /etc/cnf")
    elif not _may(account, "-r", file):
        remedy = f"chmod a+r {shlex.quote(str(file))}, and let all enter its folder"
        yield _problem(f"{file}: user {account.name} may not read it", os.EX_NOPERM, remedy)
    yield from _web_files(unit, account, settings.metrics.web_config)
    path = Path(settings.control.socket)
    if why := _unwritable(unit, account, path):
        yield _problem(f"control.socket {path}: {why[0]}", os.EX_NOPERM, why[1])
    elif unit.get("PrivateTmp", "no") != "no" and _below(path, TEMPORARY):
        seen = f"control.socket {path}: the service has a {path.parts[1]} of its own, in which nobody finds the socket"
        yield Finding("service", "warning", seen, "keep it in /run/cnf")
    if why := _unwritable(unit, account, state := Path(settings.limits.state_file)):
        seen = f"limits.state_file {state}: {why[0]}; what is changed at run time would not outlive a restart"
        yield Finding("service", "warning", seen, why[1])
    folder = Path(settings.history.folder)
    if settings.history.keep and (why := _unwritable(unit, account, folder / "file")):
        yield Finding("service", "warning", f"history.folder {folder}: {why[0]}; no minute would be kept", why[1])
    if settings.export.json.file and (why := _unwritable(unit, account, file := Path(settings.export.json.file))):
        yield Finding("service", "warning", f"export.json.file {file}: {why[0]}; flow records would be lost", why[1])


def _web_files(unit: Answer, account: Account, file: str) -> Iterator[Finding]:
    """Name the files of the web configuration that the service cannot read; others speak of what is in them."""
    with contextlib.suppress(CnfError):
        for path in web_config.files_of(Path(file)) if file else ():
            if _hidden(unit, path):
                yield _problem(f"{path}: the service does not see it", os.EX_CONFIG, "keep it in /etc/cnf")
            elif not _may(account, "-r", path):
                quoted = shlex.quote(str(path))
                remedy = f"chgrp {account.name} {quoted}; chmod 640 {quoted}, and let that group enter its folder"
                yield _problem(f"{path}: user {account.name} may not read it", os.EX_NOPERM, remedy)


def _hidden(unit: Answer, path: Path) -> bool:
    return unit.get("ProtectHome", "no") != "no" and _below(path, HOMES)


def _unwritable(unit: Answer, account: Account, path: Path) -> tuple[str, str] | None:
    """Return why the service cannot make the file ``path``, and the remedy; None if it can."""
    made = [
        f"{top}/{name}"
        for top, key in (("/run", "RuntimeDirectory"), ("/var/lib", "StateDirectory"), ("/var/log", "LogsDirectory"))
        for name in unit.get(key, "").split()
    ]
    if _below(path, made) or (unit.get("PrivateTmp", "no") != "no" and _below(path, TEMPORARY)):
        return None  # systemd makes the folder, and makes it the user's own
    folder = path.parent
    opened = [word.lstrip("-+") for word in unit.get("ReadWritePaths", "").split()]
    owned = f"install -d -o {account.name} {shlex.quote(str(folder))}"
    if _hidden(unit, path) or (unit.get("ProtectSystem") == "strict" and not _below(path, opened)):
        return "read-only for the service", f"{owned}; {_edit(f'ReadWritePaths={folder}')}"
    there = next(each for each in path.parents if each.exists())
    return None if _may(account, "-w", there) else (f"user {account.name} may not write to {there}", owned)


def _below(path: Path, folders: Sequence[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _may(account: Account, option: str, path: Path) -> bool:
    """Ask the kernel, as the service's user, what test(1) asks of ``path``; who is not root cannot, and is told yes."""
    if os.geteuid() != 0:
        return True
    command = ("test", option, str(path))
    done = subprocess.run(  # noqa: S603 - a constant, and a path as one word
        command, check=False, timeout=PATIENCE, user=account.uid, group=account.gid, extra_groups=account.groups
    )
    return done.returncode == 0


def _group(unit: Answer, account: Account, group: str) -> Iterator[Finding]:
    if not group or account.uid == 0 or (gid := _gid(group)) == -1 or gid in account.groups:
        return  # one that is not there is named elsewhere
    seen = f"control.group {group}: user {account.name} is no member, and so cannot give it the socket"
    there = unit.get("SupplementaryGroups", "").split()
    yield _problem(seen, os.EX_NOPERM, _edit(f"SupplementaryGroups={' '.join([*there, group])}"))


def _metrics(unit: Answer, account: Account, metrics: config.Metrics) -> Iterator[Finding]:
    low = metrics.port < int(UNPRIVILEGED_PORTS.read_text(encoding="ascii"))
    key = "CapabilityBoundingSet" if account.uid == 0 else "AmbientCapabilities"
    if low and "cap_net_bind_service" not in unit.get(key, ""):
        seen = f"metrics.listen {metrics.listen}: user {account.name} may not have a port below 1024"
        yield _problem(seen, os.EX_NOPERM, "choose a port from 1024 on")
    allowed = [ipaddress.ip_network(text) for text in unit.get("IPAddressAllow", "").split()]
    if unit.get("IPAddressDeny") and all(network.is_loopback for network in allowed) and not _is_local(metrics):
        seen = f"metrics.listen {metrics.listen}: only this machine gets an answer (IPAddressDeny=)"
        yield Finding("service", "warning", seen, _edit("IPAddressAllow= with the scraper's address"))


def _collectors(unit: Answer, settings: config.Settings) -> Iterator[Finding]:
    """Name the collectors that the unit's firewall refuses; of names that mean nothing here, others speak."""
    allowed = [ipaddress.ip_network(text) for text in unit.get("IPAddressAllow", "").split()]
    for collector in settings.export.ipfix if unit.get("IPAddressDeny") else ():
        host, _, port = collector.collector.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        except OSError:
            continue
        for address in dict.fromkeys(ipaddress.ip_address(str(each[0]).partition("%")[0]) for *_, each in found):
            if not any(address in network for network in allowed):
                seen = f"export.ipfix {collector.collector}: IPAddressDeny= refuses what is sent to {address}"
                yield Finding("service", "warning", seen, _edit(f"IPAddressAllow={address}"))


def _is_local(metrics: config.Metrics) -> bool:
    """Tell whether only this machine can reach the metrics; of a name that means nothing here, others have spoken."""
    try:
        found = socket.getaddrinfo(metrics.host, metrics.port, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
