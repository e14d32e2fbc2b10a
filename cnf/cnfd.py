"""The command cnfd: arguments, configuration, and an early start of building the program; then the daemon.

Light to import: what the daemon itself needs (numpy, pyroute2, h11) is loaded while the program is built.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import attrs

from cnf import VERSION, config
from cnf.datapath import program_file
from cnf.datapath.blueprint import Blueprint, plan
from cnf.datapath.build import Build
from cnf.errors import CnfError, UsageError, VerifierError
from cnf.kernel import altnames, capabilities, pins
from cnf.limits.table import Limits
from cnf.process import light_imports, lock, systemd
from cnf.process.signals import LEAVE, Signals

DEFAULT_CONFIG: Final = Path("/etc/cnf/cnf.toml")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, remedy="see cnfd --help")


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = _Parser(
        prog="cnfd", description="Track the flows of this node's interfaces with XDP, for Prometheus and cnfctl."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"configuration (default: {DEFAULT_CONFIG})")
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="NAME",
        help="track this interface or shell pattern, and not the configuration's; alone, needs no file; repeatable",
    )
    parser.add_argument(
        "--check-config", action="store_true", help="read the configuration, name every problem, and end"
    )
    parser.add_argument("--version", action="version", version=f"cnfd {VERSION}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    if sys.stderr is None:  # descriptor 2 is closed, and would be the next file's: its lines are lost there, too
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        arguments = parser().parse_args(argv)
        configuration = _configuration(arguments.config, arguments.interface)
        if arguments.check_config:
            _check_web_config(configuration.settings.metrics.web_config)
            print(f"configuration {configuration.source} is valid")  # noqa: T201 - what was asked for
            return 0
        _run(configuration)
    except CnfError as error:
        return _fail(str(error), error.exit_status)
    except OSError as error:  # of a call that nobody expects to fail; the next start may be luckier
        return _fail(f"a system call failed: {error} (short of memory or descriptors?)", os.EX_OSERR)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one line, and systemd starts another
        import structlog  # noqa: PLC0415 - as below

        structlog.get_logger().debug("where it failed", exc_info=True)
        return _fail(f'{error!r} (this is a defect of cnfd; log.level = "debug" shows where)', os.EX_SOFTWARE)
    return 0


def _fail(line: str, exit_status: int) -> int:
    prefix = systemd.priority(logging.ERROR, sys.stderr)
    print(f"{prefix}cnfd: {line}", file=sys.stderr)  # noqa: T201 - the one line that an error is
    systemd.notify(STATUS=line)
    return exit_status


def _configuration(path: Path | None, interfaces: Sequence[str]) -> config.Configuration:
    """Read the configuration that the arguments ask for."""
    source = "command line" if path is None else f"{path} and command line"
    if not interfaces:
        source = str(path or DEFAULT_CONFIG)
    chosen = config.for_interfaces(interfaces) if interfaces else None

    def load() -> config.Settings:
        if chosen is None:
            settings = config.load(path or DEFAULT_CONFIG)
        elif path is None:
            settings = chosen
        else:
            settings = attrs.evolve(config.load(path), interfaces=chosen.interfaces)
        return altnames.checked(settings, source)

    return config.Configuration(load(), source, load)


def _check_web_config(path: str) -> None:
    if path:
        from cnf.server import web_config  # noqa: PLC0415 - OpenSSL and YAML, that a daemon need not have

        web_config.load(Path(path))


def _run(configuration: config.Configuration) -> None:
    # numpy's linear algebra starts a thread a CPU at import, each with memory of its own; nothing here uses it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    blueprint = plan(configuration.settings)
    with Signals() as signals, lock.take(pins.folder()) as trouble:
        try:
            _start(blueprint, configuration, trouble, signals)
        except VerifierError as error:
            if _are_limits_wanted(configuration.settings.limits):
                raise
            import structlog  # noqa: PLC0415 - as below

            structlog.get_logger().warning(capabilities.NO_LIMITS, error=error.message, remedy=capabilities.refused())
            _start(replace(blueprint, limiter=None), configuration, trouble, signals)


def _are_limits_wanted(limits: Limits) -> bool:
    """Tell whether limits have been configured, or set at run time. Raises CnfError where that cannot be read."""
    from cnf.limits.overrides import Overrides  # noqa: PLC0415 - hardly ever needed here
    from cnf.limits.state_file import load  # noqa: PLC0415

    return limits.say_anything or load(Path(limits.state_file)) != Overrides()


def _start(
    blueprint: Blueprint, configuration: config.Configuration, trouble: OSError | None, signals: Signals
) -> None:
    with pins.map_pins(blueprint.layout, trouble) as map_pins:
        try:
            _build_and_run(blueprint, configuration, map_pins, signals)
        except pins.UnreadableError as error:
            import structlog  # noqa: PLC0415 - as below

            effect = "limits start with full buckets" if error.maps else "flows, counters and limits start anew"
            structlog.get_logger().error("handover discarded", error=str(error), effect=effect)
            map_pins.clear(error.maps)
            _build_and_run(blueprint, configuration, map_pins, signals)


def _build_and_run(
    blueprint: Blueprint, configuration: config.Configuration, map_pins: pins.MapPins, signals: Signals
) -> None:
    settings = configuration.settings
    systemd.notify(STATUS="building the program")
    folder = program_file.folder()
    build = Build(blueprint, map_pins.path, files=folder)
    try:
        # Loaded while the program is built: most of the start-up time.
        imported_whole = light_imports.load()
        import structlog  # noqa: PLC0415 - as said above

        from cnf.daemon import daemon  # noqa: PLC0415
        from cnf.process import log  # noqa: PLC0415

        if settings.metrics.web_config:
            import cnf.server.access  # noqa: F401, PLC0415 - the same

        log.configure(settings.log.level, settings.log.format, sys.stderr)
        for library, error in imported_whole.items():
            structlog.get_logger().info("library imported whole", library=library, error=error)
        signals.wait(None, build)
        if signals.stop is not None:
            structlog.get_logger().info("stopped while compiling", signal=signals.stop.name)
            build.cancel()  # it might pin maps yet
            if signals.stop != LEAVE and settings.on_exit == "detach":
                _take_back(map_pins)
            return
        try:
            datapath = build.finish()
        finally:
            if build.not_used:
                structlog.get_logger().warning("program of a file not used", path=str(folder), error=build.not_used)
            if build.not_kept:
                structlog.get_logger().warning("program not kept in a file", path=str(folder), error=build.not_kept)
    except CnfError as error:
        structlog.get_logger().debug("details of the error", lines=error.details.splitlines())
        raise
    finally:
        build.cancel()
    try:
        daemon.run(configuration, datapath, map_pins, signals)
    finally:
        datapath.close()


def _take_back(map_pins: pins.MapPins) -> None:
    """Take off what the previous daemon has left for this one: a stop leaves nothing, however early it comes."""
    import structlog  # noqa: PLC0415 - as above

    from cnf.kernel.leavings import take_back  # noqa: PLC0415 - loads pyroute2
    from cnf.kernel.links import Links  # noqa: PLC0415

    log = structlog.get_logger()
    with Links() as links:
        taken = take_back(map_pins.folder, links)
    for name in taken.interfaces:
        log.info("left-behind program detached", interface=name)
    for error in taken.refused:
        log.error("left-behind program stays", error=error)


if __name__ == "__main__":
    sys.exit(main())
