"""The configuration: TOML in, validated and immutable settings out. Pure: looks at no kernel and at no machine.

An option is declared once, as a field of a settings class: its type, its default, what it means and its reader. A
reader takes a TOML value and its key path, and returns the setting or refuses it with what was expected there.
"""

import difflib
import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from attrs import NOTHING, AttrsInstance, field, fields_dict, frozen

from cnf.errors import ConfigError, PrivilegeError, Problem

Mode = Literal["auto", "native", "generic"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

MAX_FILE_BYTES: Final = 1 << 20
_MAX_NAME_BYTES: Final = 15  # IFNAMSIZ - 1, linux/if.h
_MAX_PATTERN_BYTES: Final = 64
_MAX_SOCKET_BYTES: Final = 107  # sizeof(sun_path) - 1, linux/un.h
_MAX_PORT: Final = 65535
_MIN_DURATION: Final = Decimal("0.1")
_MAX_DURATION: Final = Decimal(24 * 3600)
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_DECIMAL_BITS: Final = 256  # a longer number is shown in hex: str() refuses thousands of digits

Reader = Callable[[object, str], Any]
TableT = TypeVar("TableT", bound=AttrsInstance)


class _RefusedError(Exception):
    """Carry the problems of a value to the table that it stands in."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def _refusal(path: str, expected: str, value: object, hint: str = "") -> _RefusedError:
    return _RefusedError(Problem(path, f"expected {expected}, got {_shown(value)}" + (f" ({hint})" if hint else "")))


def _shown(value: object) -> str:
    """Return a user's value as TOML would have it, in printable ASCII and shortened."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return _shortened(str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value))
        case str():
            return json.dumps(_shortened(value))
        case dict():
            return "a table"
        case list():
            return "an array" if value else "an empty array"
        case _:
            return str(value)


def _shortened(text: str, end: int = 40) -> str:
    return text if len(text) <= 2 * end else f"{text[:end]}...{text[-end:]}"


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _value(expected: str, fits: Callable[[Any], bool]) -> Reader:
    """Read a value that is taken as it is, provided that it ``fits``."""

    def read(value: object, path: str) -> object:
        if not fits(value):
            raise _refusal(path, expected, value)
        return value

    return read


def _text(expected: str, fits: Callable[[str], bool]) -> Reader:
    return _value(expected, lambda value: isinstance(value, str) and fits(value))


def _choice(literal: object) -> Reader:
    *names, last = get_args(literal)
    return _text(f"{', '.join(names)} or {last}", {*names, last}.__contains__)


def _integer(least: int, most: int) -> Reader:
    return _value(f"an integer from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def _duration(value: object, path: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", value) if isinstance(value, str) else None
    seconds = Decimal(found[1]) * _SECONDS[found[2]] if found else None
    if seconds is None or not _MIN_DURATION <= seconds <= _MAX_DURATION:
        hint = "" if found else "write a number and its unit: ms, s, m or h"
        raise _refusal(path, 'a duration from "100ms" to "24h", such as "5s"', value, hint)
    return float(seconds)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def _is_name(text: str) -> bool:
    """Tell whether dev_valid_name() of net/core/dev.c would take ``text``; a shell pattern may be longer."""
    longest = _MAX_PATTERN_BYTES if re.search(r"[*?\[]", text) else _MAX_NAME_BYTES
    return 1 <= _size(text) <= longest and text not in {".", ".."} and not re.search(r"[/:\s\0]", text)


def _is_socket(text: str) -> bool:
    return _size(text) <= _MAX_SOCKET_BYTES and re.fullmatch(r"/[^\0]*[^\0/]", text) is not None


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
    raise _refusal(path, f'"HOST:PORT" or "[IPV6]:PORT", a port from 1 to {_MAX_PORT}', value, hint)


_BOOLEAN: Final = _value("true or false", lambda value: isinstance(value, bool))
_NAME: Final = _text('an interface (1 to 15 bytes) or shell pattern (to 64), without "/", ":" and space', _is_name)
_SOCKET: Final = _text("the absolute path of a socket, at most 107 bytes", _is_socket)
_GROUP: Final = _text('the name of a group, or "" for none', _is_group)


def _table(settings_class: type[TableT]) -> Callable[[object, str], TableT]:
    """Read a table into ``settings_class``: its fields are the keys, and those without a default must be there."""

    def read(value: object, path: str) -> TableT:
        if not isinstance(value, dict):
            raise _refusal(path, "a table", value)
        options = fields_dict(settings_class)
        problems: list[Problem] = []
        settings: dict[str, Any] = {}
        for key, item in value.items():
            here = _joined(path, key)
            if key not in options:
                problems.append(Problem(here, f"unknown key, {_nearest(key, list(options))}"))
                continue
            _, read_option, _ = get_args(options[key].type)
            try:
                settings[key] = read_option(item, here)
            except _RefusedError as error:
                problems += error.problems
        for key, option in options.items():
            if option.default is NOTHING and key not in value:
                problems.append(Problem(_joined(path, key), f"missing: {get_args(option.type)[-1]}"))
        if problems:
            raise _RefusedError(*problems)
        return settings_class(**settings)

    return read


def _joined(path: str, key: str) -> str:
    shown = key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else _shown(key)
    return f"{path}.{shown}" if path else shown


def _nearest(key: str, known: list[str]) -> str:
    """Return a hint; only the beginning of ``key`` is compared, because comparing takes quadratic time."""
    near = difflib.get_close_matches(key[:64], known, n=1)
    return f"did you mean {near[0]}?" if near else f"expected {', '.join(known)}"


@frozen
class Interface:
    """One ``[[interfaces]]`` table; ``name`` may be a shell pattern (``fnmatch``)."""

    name: Annotated[str, _NAME, 'an interface, or a shell pattern such as "ens*"']
    mode: Annotated[Mode, _choice(Mode), "auto (native, then generic), native or generic"] = "auto"


@frozen
class Flows:
    """Table ``[flows]``; times in seconds."""

    max_entries: Annotated[int, _integer(1, 1 << 24), "flows a table can hold; IPv4 and IPv6 have one each"] = 262_144
    idle_timeout: Annotated[float, _duration, "a flow without a packet for so long expires"] = 60.0
    ended_timeout: Annotated[float, _duration, "the same for a TCP flow that has shown FIN or RST"] = 5.0
    drain_interval: Annotated[float, _duration, "from one reading of the tables to the next"] = 5.0
    ipv6: Annotated[bool, _BOOLEAN, "false: not compiled in, IPv6 packets count as non_ip"] = True
    vlan: Annotated[bool, _BOOLEAN, "false: not compiled in, tagged packets count as non_ip"] = True


@frozen
class Metrics:
    """Table ``[metrics]``."""

    listen: Annotated[str, _listen, "where Prometheus scrapes"] = "127.0.0.1:9995"
    top_flows: Annotated[int, _integer(0, 10_000), "flows that get series of their own; the rest is summed"] = 50
    max_series: Annotated[int, _integer(1, 1_000_000), "series in a scrape; more are left out and counted"] = 10_000

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


@frozen
class Log:
    """Table ``[log]``."""

    level: Annotated[LogLevel, _choice(LogLevel), "debug, info, warning or error"] = "info"
    format: Annotated[LogFormat, _choice(LogFormat), "auto (console on a terminal, else json), console, json"] = "auto"


def _interfaces(value: object, path: str) -> tuple[Interface, ...]:
    if not isinstance(value, list) or not value:
        raise _refusal(path, "[[interfaces]] tables, at least one", value)
    problems: list[Problem] = []
    interfaces: list[Interface] = []
    names: set[str] = set()
    for index, item in enumerate(value):
        here = f"{path}[{index}]"
        try:
            interfaces.append(_table(Interface)(item, here))
        except _RefusedError as error:
            problems += error.problems
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str):
            if name in names:
                problems.append(Problem(f"{here}.name", f"expected each interface once, got {_shown(name)} again"))
            names.add(name)
    if problems:
        raise _RefusedError(*problems)
    return tuple(interfaces)


@frozen
class Settings:
    """A whole configuration."""

    interfaces: Annotated[tuple[Interface, ...], _interfaces, "at least one [[interfaces]] table with a name"]
    flows: Annotated[Flows, _table(Flows), "what is counted, and how long it is kept"] = field(factory=Flows)
    metrics: Annotated[Metrics, _table(Metrics), "the Prometheus exporter"] = field(factory=Metrics)
    control: Annotated[Control, _table(Control), "how cnfctl reaches the daemon"] = field(factory=Control)
    log: Annotated[Log, _table(Log), "the log on stderr"] = field(factory=Log)


def load(path: Path) -> Settings:
    """Read the file ``path``.

    Raises ConfigError with every problem in it, and PrivilegeError when it may not be read.
    """
    source = _printable(str(path))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        remedy = "use --interface NAME, or another file with --config FILE"
        raise _error(source, f"{error.strerror} ({remedy})") from None
    except PermissionError as error:
        message = f"configuration {source}: {error.strerror} (run as root, or let this user read the file)"
        raise PrivilegeError(message) from None
    except OSError as error:
        raise _error(source, str(error.strerror)) from None
    if len(data) > MAX_FILE_BYTES:
        raise _error(source, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(source, f"not UTF-8 (at line {line})") from None
    return parse(text, source)


def parse(text: str, source: str) -> Settings:
    """Read TOML from ``text``; ``source`` names it in errors. Raises ConfigError with every problem in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(source, f"not TOML: {_printable(_shortened(str(error), 100))}") from None
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
        return _table(Settings)(document, "")
    except _RefusedError as error:
        raise ConfigError(source, error.problems) from None


def _error(source: str, message: str) -> ConfigError:
    """Return the error for a file as a whole."""
    return ConfigError(source, [Problem("", message)])
