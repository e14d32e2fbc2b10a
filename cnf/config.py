"""The configuration: TOML in, validated and immutable settings out. Pure: looks at no kernel.

Of the machine it knows only what its processor is, by which a default goes.

An option is declared once, as a field of a settings class: its type, its default, what it means and its reader. A
reader takes a TOML value and its key path, and returns the setting or refuses it with what was expected there.
"""

import codecs
import errno
import ipaddress
import platform
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from attrs import field, frozen

from cnf.direction import DIRECTIONS, Direction
from cnf.errors import ConfigError, PrivilegeError, Problem, UnavailableError
from cnf.limits.table import LIMITS, NO_TABLE, Limits
from cnf.readers import (
    BOOLEAN,
    INTERFACE,
    Reader,
    RefusedError,
    array,
    choice,
    duration,
    integer,
    printable,
    refusal,
    shortened,
    size,
    subset,
    table,
    text,
)
from cnf.recording import EXPORT, HISTORY, PATH, Export, History

Mode = Literal["auto", "native", "generic", "tc"]
OnExit = Literal["detach", "keep"]
FlowTable = Literal["cache", "lru_hash"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

MAX_INTERFACES: Final = 1024
"""Interfaces that can have counters, unless the configuration says otherwise."""
MAX_FILE_BYTES: Final = 4 << 20  # 10,000 rules with an option or two more than they need
_MAX_SOCKET_BYTES: Final = 107  # sizeof(sun_path) - 1, linux/un.h
_MAX_PORT: Final = 65535


def _is_socket(text: str) -> bool:
    return size(text) <= _MAX_SOCKET_BYTES and re.fullmatch(r"/[^\0]*[^\0/]", text) is not None


def _is_group(text: str) -> bool:
    return not re.search(r"[:,\0\n]", text)


def _is_listen(text: str) -> bool:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})", text)
    if not found:
        return False
    ipv6, ipv4, port = found.groups()
    try:
        if ipv6:
            ipaddress.IPv6Address(ipv6)
        if ipv4:
            ipaddress.IPv4Address(ipv4)
    except ValueError:
        return False
    return 1 <= int(port) <= _MAX_PORT


def _listen(value: object, path: str) -> str:
    if isinstance(value, str) and _is_listen(value):
        return value
    only_port = isinstance(value, str) and re.fullmatch(r":[0-9]{1,5}", value)
    hint = f'for every address write "0.0.0.0{value}" or "[::]{value}"' if only_port else ""
    raise refusal(path, f'"HOST:PORT" or "[IPV6]:PORT", a port from 1 to {_MAX_PORT}', value, hint)


_SOCKET: Final = text("the absolute path of a socket, at most 107 bytes", _is_socket)
_DIRECTIONS: Final = subset(Direction)
_GROUP: Final = text('the name of a group, or "" for none', _is_group)


@frozen
class Interface:
    """One ``[[interfaces]]`` table; ``name`` may be a shell pattern (``fnmatch``)."""

    name: Annotated[str, INTERFACE, 'an interface, by name or altname, or a shell pattern such as "ens*"']
    mode: Annotated[Mode, choice(Mode), "of what comes in: auto (native or tc), native, generic or tc"] = "auto"
    directions: Annotated[tuple[Direction, ...], _DIRECTIONS, "what is counted: ingress, egress, or both"] = DIRECTIONS


def default_table(machine: str) -> FlowTable:
    """Return the kind of flow table for a processor: the cache where it has been measured to be the faster one."""
    return "cache" if machine in {"x86_64", "AMD64"} else "lru_hash"


_TABLE: Final = default_table(platform.machine())


@frozen
class Flows:
    """Table ``[flows]``; times in seconds."""

    max_entries: Annotated[int, integer(1, 1 << 24), "flows a table can hold; IPv4 and IPv6 have one each"] = 262_144
    idle_timeout: Annotated[float, duration, "a flow without a packet for so long expires"] = 60.0
    ended_timeout: Annotated[float, duration, "the same for a TCP flow that has shown FIN or RST"] = 5.0
    drain_interval: Annotated[float, duration, "from one reading of the tables to the next"] = 5.0
    ipv6: Annotated[bool, BOOLEAN, "false: IPv6 packets count as non_ip, and limits hold for them all the same"] = True
    vlan: Annotated[bool, BOOLEAN, "false: tagged packets count as non_ip, and limits hold for them all the same"] = (
        True
    )
    table: Annotated[FlowTable, choice(FlowTable), "cache (default on x86-64) or lru_hash (on all others)"] = _TABLE
    evicted_records: Annotated[bool, BOOLEAN, "true: name the flows that a full table evicts; only with cache"] = False


def _flows(value: object, path: str) -> Flows:
    """Read the table, and check what holds between its options."""
    flows = table(Flows)(value, path)
    if flows.evicted_records and flows.table == "lru_hash":
        expected = 'expected only beside table = "cache", got true with "lru_hash" (which tells nobody what it evicts)'
        raise RefusedError(Problem(f"{path}.evicted_records", expected))
    return flows


FLOWS: Final[Reader] = _flows


@frozen
class Metrics:
    """Table ``[metrics]``."""

    listen: Annotated[str, _listen, "where Prometheus scrapes"] = "127.0.0.1:9995"
    top_flows: Annotated[int, integer(0, 10_000), "flows at most that get series of their own; the rest is summed"] = 50
    max_series: Annotated[int, integer(1, 1_000_000), "series in a scrape; more are left out and counted"] = 10_000
    web_config: Annotated[str, PATH, "a file of exporter-toolkit's form: TLS, passwords and headers"] = ""

    @property
    def host(self) -> str:
        """Return the host name or address of ``listen``, an IPv6 address without its brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port of ``listen``."""
        return int(self.listen.rpartition(":")[2])


@frozen
class Control:
    """Table ``[control]``."""

    socket: Annotated[str, _SOCKET, "the socket that cnfctl talks to"] = "/run/cnf/cnf.sock"
    group: Annotated[str, _GROUP, "a group that may use the socket, besides root"] = ""
    read_group: Annotated[str, _GROUP, "a group that may look, and change nothing"] = ""


@frozen
class Log:
    """Table ``[log]``."""

    level: Annotated[LogLevel, choice(LogLevel), "debug, info, warning or error"] = "info"
    format: Annotated[LogFormat, choice(LogFormat), "auto (console on a terminal, else json), console, json"] = "auto"


_INTERFACES: Final = array("[[interfaces]] tables, at least one", table(Interface), least=1, noun="interface")


@frozen
class Settings:
    """A whole configuration."""

    on_exit: Annotated[OnExit, choice(OnExit), "at a stop: detach; or keep: the program goes on without it"] = field(
        default="detach", kw_only=True
    )
    max_interfaces: Annotated[
        int, integer(1, 65_536), "interfaces that can be counted; each takes 240 bytes of a CPU's memory"
    ] = field(default=MAX_INTERFACES, kw_only=True)
    interfaces: Annotated[tuple[Interface, ...], _INTERFACES, "at least one [[interfaces]] table with a name"]
    flows: Annotated[Flows, FLOWS, "what is counted, and how long it is kept"] = field(factory=Flows)
    metrics: Annotated[Metrics, table(Metrics), "the Prometheus exporter"] = field(factory=Metrics)
    control: Annotated[Control, table(Control), "how cnfctl reaches the daemon"] = field(factory=Control)
    log: Annotated[Log, table(Log), "the log on stderr"] = field(factory=Log)
    export: Annotated[Export, EXPORT, "where flow records go"] = field(factory=Export)
    history: Annotated[History, HISTORY, "what each minute had, kept on this node"] = field(factory=History)
    limits: Annotated[Limits, LIMITS, "token buckets; without this table, there is what is set at run time"] = NO_TABLE

    @property
    def records(self) -> bool:
        """Return whether flow records are made."""
        return self.export.is_on or self.history.keep > 0


@frozen
class Configuration:
    """Settings, and where they come from."""

    settings: Settings
    source: str
    """The file, or what stands for it, in words."""
    load: Callable[[], Settings]
    """Read them again. Raises ConfigError, UnavailableError or PrivilegeError."""


def load(path: Path) -> Settings:
    """Read the file ``path``.

    Raises:
        ConfigError: with every problem in it, or it is no file.
        PrivilegeError: it may not be read.
        UnavailableError: its file system fails.

    """
    source = printable(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        remedy = "use --interface NAME, or another file with --config FILE"
        raise _error(source, str(error.strerror), remedy) from None
    except PermissionError as error:
        remedy = "run as root, or let this user read the file"
        raise PrivilegeError(f"configuration {source}: {error.strerror}", remedy=remedy) from None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise _error(source, str(error.strerror)) from None
        raise UnavailableError(f"configuration {source}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _error(source, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    # Without its mark it is known by the first character, which is ASCII: one of the two bytes is zero.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or (
        len(data) > 1 and any(data[:2]) != all(data[:2])
    ):
        raise _error(source, "UTF-16, and TOML is UTF-8", "save it as UTF-8, or: iconv -f UTF-16 -t UTF-8")
    try:
        text = data.decode("utf-8-sig")  # some editors put a byte-order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(source, f"not UTF-8 (at line {line})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _error(source, f"a zero byte (at line {line}): no text, or torn by a crash")
    return parse(text, source)


def parse(text: str, source: str) -> Settings:
    """Read TOML from ``text``; ``source`` names it in errors. Raises ConfigError with every problem in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(source, f"not TOML: {printable(shortened(str(error), 100))}") from None
    except ValueError:  # int() refuses thousands of digits
        raise _error(source, "not TOML: a number is too long") from None
    except RecursionError:
        raise _error(source, "arrays or tables are nested too deeply") from None
    return _settings(document, source)


def for_interfaces(names: Sequence[str]) -> Settings:
    """Return the defaults for the interfaces ``names``. Raises ConfigError."""
    return _settings({"interfaces": [{"name": name} for name in names]}, "command line")


def _settings(document: dict[str, object], source: str) -> Settings:
    try:
        return table(Settings)(document, "")
    except RefusedError as error:
        raise ConfigError(source, error.problems) from None


def _error(source: str, message: str, remedy: str = "") -> ConfigError:
    """Return the error for a file as a whole."""
    return ConfigError(source, [Problem("", message)], remedy)
