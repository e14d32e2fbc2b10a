"""``cnfctl doctor``: what cnfd needs of this machine, each with its remedy, found without a daemon.

It takes cnfd's options and says what cnfd would do with them. Nothing is attached, and nothing is left behind.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

from cnf.cli.api.client import Client
from cnf.cli.doctor.report import Finding, exit_status_of, page
from cnf.cli.show.table import print_lines, style_for
from cnf.datapath import installed_bcc
from cnf.errors import SHOWN_PROBLEMS, CnfError, ConfigError, UnavailableError, VerifierError

try:
    import attrs

    from cnf import config
    from cnf.cli.doctor import running, socket_unit, unit
    from cnf.cli.doctor.addresses import PATIENCE, judge_collectors, judge_control, judge_metrics
    from cnf.cli.doctor.footprint import Room, judge_memory
    from cnf.cli.doctor.interfaces import judge_interfaces
    from cnf.datapath import build, program_file
    from cnf.datapath.blueprint import LimiterSize, plan
    from cnf.kernel import altnames, capabilities, pins, probe, tcx
    from cnf.kernel.nics import nics
    from cnf.limits.state_file import load as load_overrides
    from cnf.limits.table import Limits
    from cnf.process import lock
    from cnf.server import web_config
except ImportError as error:
    remedy = "install cnf with all that it depends on: sudo sh deploy/setup.sh"
    raise UnavailableError(f"{sys.executable} lacks a part of cnf: {error}", remedy=remedy) from error

DEFAULT_CONFIG: Final = Path("/etc/cnf/cnf.toml")
OLDEST_KERNEL: Final = (5, 18)
TRIAL_ENTRIES: Final = 1024
"""The program is tried with small tables: an examination must not take a busy node's memory."""
Result = TypeVar("Result")


Check = Callable[[], str | Iterable[Finding]]
"""Returns what it saw if all is well, or findings; raises what cnfd would end with."""


def run(output: str, file: str | None, interfaces: Sequence[str]) -> int:
    """Examine the machine for ``cnfd --config file --interface ...``, show it, and return the exit status."""
    found = examine(Path(file) if file else None, interfaces)
    exit_status = exit_status_of(found)
    if output == "json":
        shown = [{key: getattr(finding, key) for key in ("name", "state", "seen", "remedy")} for finding in found]
        print(json.dumps({"would_start": exit_status == 0, "findings": shown}, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print_lines(page(found, width, style_for(sys.stdout)))
    return exit_status


def examine(file: Path | None, names: Sequence[str]) -> list[Finding]:
    """Look at everything: the machine first, then what the configuration asks of it."""
    settings, failed = _tried("configuration", lambda: _settings(file, names), os.EX_CONFIG)
    service, whole = unit.read(), None if names else file or DEFAULT_CONFIG
    ours = service if service and whole and unit.starts_with(service, whole) else None
    kept = _tried("program", lambda: _kept(settings, ours))[0] if settings else None
    found = [
        *_checked("kernel", _kernel),
        *_checked("lockdown", _lockdown),
        *_checked("bpffs", _bpffs),
        *_checked("capabilities", _capabilities, os.EX_NOPERM),
        *_checked("libbpf", lambda: f"version {probe.libbpf_version()}", os.EX_UNAVAILABLE),
        *_checked("bcc", lambda: _bcc(kept), os.EX_UNAVAILABLE),
    ]
    lacking = [finding.name for finding in found if finding.exit_status]
    if "libbpf" not in lacking:
        found += _checked("bpf", _features)
        found += _checked("jit", _jit)
        found += _checked("tcx", _tcx)
    if lacking:
        found.append(Finding("program", "unknown", f"not tried, for want of {', '.join(lacking)}"))
    elif kept:  # to compile it again takes seconds, and tells nothing about the next start
        found.append(Finding("program", "ok", f"{kept}: compiled before, and this kernel took it"))
    else:
        found += _checked("program", lambda: _program(settings), os.EX_OSERR)
    found += failed or [Finding("configuration", "ok", f"{_source(file, names)} is valid")]
    if settings:
        found += _examine_for(settings, whole, service, ours)
    return found


def _examine_for(
    settings: config.Settings, file: Path | None, service: unit.Answer | None, ours: unit.Answer | None
) -> list[Finding]:
    """Look at what the configuration asks for; ``file`` is where all of it stands, None where there is no such.

    ``service`` is the unit, if there is one, and so is ``ours``, if it starts cnfd with that file.
    """
    limits = settings.limits
    held = socket_unit.held() if ours else socket_unit.Held()
    # To connect to a socket of systemd would start a daemon.
    idle = ours is not None and bool(held.control) and not unit.is_active(ours)
    ask = Client(settings.control.socket, PATIENCE).status
    answering, failed = (None, []) if idle else _tried("control.socket", ask)
    refused = [finding for finding in failed if finding.exit_status == os.EX_NOPERM]
    holder = lock.holder(pins.folder())
    daemon = answering if holder or not running.may_see(pins.folder()) else None
    control: Check = partial(judge_control, settings.control, answering, daemon)
    metrics: Check = partial(judge_metrics, settings.metrics, may_be_held=bool(holder or refused))
    if held.control:
        control = partial(_held, held.control)
    if held.metrics:
        metrics = partial(_held, held.metrics)
    service_fits = partial(unit.judge, metrics_held=bool(held.metrics), control_held=bool(held.control))
    programs = None if refused else running.programs(daemon)
    return [
        *_checked("memory", lambda: [judge_memory(settings, _room(ours))]),
        *_checked("limits.state_file", partial(_state_file, limits)),
        *_checked("daemon", lambda: running.judge(daemon, holder, settings.control.socket, refused=bool(refused))),
        *(refused or _checked("control.socket", control, os.EX_CONFIG)),
        *_checked("metrics.listen", metrics, os.EX_UNAVAILABLE),
        *(_checked("metrics.web_config", partial(_web_config, settings.metrics.web_config), os.EX_CONFIG)),
        *_checked("export.ipfix", lambda: judge_collectors([each.collector for each in settings.export.ipfix])),
        *_checked("interfaces", lambda: judge_interfaces(nics(), settings, programs), os.EX_OSERR),
        *_checked("service", lambda: service_fits(ours, settings, file) if ours and file else [_service(service)]),
    ]


def _checked(name: str, check: Check, exit_status: int = 0) -> list[Finding]:
    """Return what a check found; ``exit_status`` is for one that fails where cnfd would need its answer."""

    def findings() -> list[Finding]:
        seen = check()
        return [Finding(name, "ok", seen)] if isinstance(seen, str) else list(seen)

    found, failed = _tried(name, findings, exit_status)
    return found or failed


def _tried(name: str, action: Callable[[], Result], exit_status: int = 0) -> tuple[Result | None, list[Finding]]:
    """Return what ``action`` returns, or None and what it raised as findings."""
    try:
        return action(), []
    except ConfigError as error:
        seen = [f"{error.source}: {problem}" for problem in error.problems[:SHOWN_PROBLEMS]]
        if len(error.problems) > SHOWN_PROBLEMS:
            seen.append(f"{error.source}: {len(error.problems) - SHOWN_PROBLEMS:,} more problems")
        return None, [Finding(name, "problem", text, error.remedy or None, error.exit_status) for text in seen]
    except CnfError as error:
        return None, [Finding(name, "problem", error.message, error.remedy or None, error.exit_status)]
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest is worth looking at
        return None, [Finding(name, "unknown", f"the examination failed: {error!r}", exit_status=exit_status)]


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    if tuple(map(int, re.findall(r"\d+", release)[:2])) >= OLDEST_KERNEL:
        yield Finding("kernel", "ok", f"Linux {release}")
        return
    # No problem by itself: distributions bring later BPF to older kernels. What was tried below decides.
    yield Finding("kernel", "warning", f"Linux {release}, and nothing before 5.18 is tested", "run 5.18 or newer")


def _lockdown() -> Iterator[Finding]:
    mode = probe.lockdown()
    if mode is None:
        yield Finding("lockdown", "unknown", "not shown here: securityfs is not mounted, or the kernel has no lockdown")
    else:
        yield Finding("lockdown", "ok", mode if mode == "none" else f"{mode}, which leaves XDP alone")


def _capabilities() -> Iterator[Finding]:
    missing = capabilities.missing()
    if missing:
        raise capabilities.lacking(missing)
    yield Finding("capabilities", "ok", f"{' and '.join(capabilities.NEEDED)} in effect, user id {os.geteuid()}")
    if capabilities.missing(capabilities.SPEED):
        yield Finding("capabilities", "warning", capabilities.SLOW, capabilities.remedy(capabilities.SPEED))


def _features() -> Iterator[Finding]:
    for name, answer in probe.features().items():
        if answer.works:
            yield Finding(name, "ok", "works")
        elif answer.works is None:
            yield Finding(name, "unknown", f"could not tell: {answer.words}")
        else:
            seen = f"not in this kernel: {answer.words}"
            yield Finding(name, "problem", seen, "run Linux 5.18 or newer", os.EX_OSERR)


def _jit() -> Iterator[Finding]:
    answer = probe.jit()
    if answer.works:
        yield Finding("jit", "ok", "on")
    elif answer.works is None:
        yield Finding("jit", "unknown", f"could not tell: {answer.words}")
    else:
        seen = "off: programs are interpreted, and several times slower"
        yield Finding("jit", "warning", seen, "sysctl -w net.core.bpf_jit_enable=1")


def _tcx() -> Iterator[Finding]:
    answer = probe.attempt(_need_tcx)
    if answer.works is None:
        yield Finding("tcx", "unknown", f"could not tell: {answer.words}")
    else:
        yield Finding("tcx", "ok", "works" if answer.works else "not in this kernel (Linux 6.6): clsact is used")


def _need_tcx() -> None:
    if not tcx.is_there():
        raise OSError(errno.EOPNOTSUPP, "no TCX")


def _bpffs() -> Iterator[Finding]:
    if probe.bpffs_is_mounted():
        yield Finding("bpffs", "ok", f"mounted at {pins.BPFFS}")
        return
    seen = (
        f"not mounted at {pins.BPFFS}: after a crash of cnfd, flows, counters and tokens are lost, and its program "
        "will seem to be somebody else's"
    )
    yield Finding("bpffs", "warning", seen, pins.MOUNT)


def _kept(settings: config.Settings, ours: unit.Answer | None) -> Path | None:
    """Return the file that cnfd would take its program from; None if it would compile it."""
    folder, user = unit.programs(ours) if ours else (program_file.folder(), os.geteuid())
    return build.kept(plan(settings), folder, user)


def _bcc(program: Path | None) -> Iterator[Finding]:
    """Say which BCC there is; ``program`` is a file that makes up for its lack. Raises UnavailableError."""
    try:
        yield Finding("bcc", "ok", f"version {installed_bcc.bcc_version()}, with {sys.executable}")
    except UnavailableError as error:
        if program is None:
            raise
        seen = f"{error.message}; cnfd starts all the same, until its configuration, its version or the kernel changes"
        yield Finding("bcc", "warning", seen, error.remedy)


def _program(settings: config.Settings | None) -> Iterator[Finding]:
    settings = settings or config.for_interfaces(["any-name"])
    limiter = LimiterSize(TRIAL_ENTRIES, TRIAL_ENTRIES, TRIAL_ENTRIES)
    blueprint = replace(plan(settings), max_entries=TRIAL_ENTRIES, limiter=limiter)
    try:
        build.load(blueprint).close()
    except VerifierError:
        if settings.limits.say_anything:
            raise
        build.load(replace(blueprint, limiter=None)).close()
        yield Finding("limits", "warning", capabilities.NO_LIMITS, capabilities.refused())
    yield Finding("program", "ok", "compiles, and the verifier takes it")


def _source(file: Path | None, names: Sequence[str]) -> str:
    if names:
        return f"{file} and command line" if file else "command line"
    return str(file or DEFAULT_CONFIG)


def _settings(file: Path | None, names: Sequence[str]) -> config.Settings:
    """Read the settings as cnfd does."""
    if not names:
        settings = config.load(file or DEFAULT_CONFIG)
    elif file is None:
        settings = config.for_interfaces(names)
    else:
        settings = attrs.evolve(config.load(file), interfaces=config.for_interfaces(names).interfaces)
    return altnames.checked(settings, _source(file, names))


def _held(addresses: Sequence[str]) -> str:
    return f"{', '.join(addresses)}: held by cnfd.socket"


def _state_file(limits: Limits) -> str:
    path = Path(limits.state_file)
    load_overrides(path)
    return f"{path} is valid" if path.exists() else f"{path}: nothing was changed at run time"


def _web_config(file: str) -> Iterator[Finding]:
    """Read the web configuration, and say what it asks of who scrapes."""
    if not file:
        return
    found = web_config.load(Path(file))
    asked = [word for word, is_there in (("TLS", found.tls), ("a password", found.users)) if is_there]
    yield Finding("metrics.web_config", "ok", f"{file}: asks for {' and '.join(asked) or 'nothing'}")


def _room(service: unit.Answer | None) -> Room:
    """Return the memory that cnfd can have: of the machine, or of the cgroup that it will be in, if that is less."""
    rooms = [Room("available", probe.available_memory())]
    limit = unit.memory_limit(service) if service else None
    if limit is not None:
        rooms.append(Room("MemoryMax=", limit, "raise it: systemctl edit cnfd"))
    if service is None and (limit := probe.memory_limit()) is not None:
        rooms.append(Room("this cgroup may have", limit, "raise the memory limit of this container or service"))
    return min(rooms, key=attrgetter("bytes"))


def _service(service: unit.Answer | None) -> Finding:
    if service is None:
        return Finding("service", "ok", "not needed: systemd does not run here")
    if unit.is_installed(service):
        return Finding("service", "ok", f"{service['FragmentPath']} is installed, for another configuration")
    if service.get("LoadState") == "masked":
        return Finding("service", "warning", "cnfd.service is masked", "systemctl unmask cnfd")
    return Finding("service", "warning", "cnfd.service is not installed", "sh deploy/install.sh")
