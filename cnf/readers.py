"""How one option is read: readers take a TOML value and its key path, and return the setting or refuse it. Pure.

A refusal says what was expected there. A table of options is an attrs class whose fields are annotated with type,
reader and meaning: ``name: Annotated[type, reader, "what it means"] = default``.
"""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeVar, get_args

from attrs import NOTHING, AttrsInstance, fields_dict

from cnf.errors import Problem, nearest

_MIN_DURATION: Final = Decimal("0.1")
_MAX_DURATION: Final = Decimal(24 * 3600)
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_MAX_NAME_BYTES: Final = 15  # IFNAMSIZ - 1, linux/if.h
_MAX_ALTNAME_BYTES: Final = 127  # ALTIFNAMSIZ - 1
_MAX_PATTERN_BYTES: Final = 64
_DECIMAL_BITS: Final = 256  # a longer number is shown in hex: str() refuses thousands of digits

Reader = Callable[[object, str], Any]
TableT = TypeVar("TableT", bound=AttrsInstance)


class RefusedError(Exception):
    """Carry the problems of a value to the table that it stands in."""

    def __init__(self, *problems: Problem) -> None:
        """Keep ``problems``."""
        super().__init__(*problems)
        self.problems = problems


def refusal(path: str, expected: str, value: object, hint: str = "") -> RefusedError:
    """Return the refusal of one value."""
    return RefusedError(Problem(path, f"expected {expected}, got {shown(value)}" + (f" ({hint})" if hint else "")))


def shown(value: object) -> str:
    """Return a user's value as TOML would have it, in printable ASCII and shortened."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return shortened(str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value))
        case str():
            return json.dumps(shortened(value))
        case dict():
            return "a table"
        case list():
            return "an array" if value else "an empty array"
        case _:
            return str(value)


def shortened(text: str, end: int = 40) -> str:
    """Return a long text as its beginning and its end, of ``end`` characters each."""
    return text if len(text) <= 2 * end else f"{text[:end]}...{text[-end:]}"


MAX_PATH_BYTES: Final = 4000
"""PATH_MAX of linux/limits.h, with room for a suffix."""


def is_path(text: str) -> bool:
    """Tell whether a text is the absolute path of a file."""
    return re.fullmatch(r"/[^\0]*[^\0/]", text) is not None and size(text) <= MAX_PATH_BYTES


def printable(text: str) -> str:
    """Return a text in printable ASCII, the rest as escapes."""
    return text.encode("unicode_escape").decode("ascii")


def size(text: str) -> int:
    """Return the bytes of a name or path, which may hold some that are not UTF-8."""
    return len(text.encode(errors="surrogateescape"))


def value(expected: str, fits: Callable[[Any], bool]) -> Reader:
    """Read a value that is taken as it is, provided that it ``fits``."""

    def read(value: object, path: str) -> object:
        if not fits(value):
            raise refusal(path, expected, value)
        return value

    return read


def text(expected: str, fits: Callable[[str], bool]) -> Reader:
    """Read a string that ``fits``."""
    return value(expected, lambda value: isinstance(value, str) and fits(value))


def choice(literal: object) -> Reader:
    """Read one of the strings of a ``Literal``."""
    *names, last = get_args(literal)
    return text(f"{', '.join(names)} or {last}", {*names, last}.__contains__)


def subset(literal: object) -> Reader:
    """Read an array of one or more strings of a ``Literal``, each once; return them in the order of the Literal."""
    names = get_args(literal)
    expected = f"an array of {' and '.join(map(shown, names))}, at least one of them, each once"

    def read(value: object, path: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or any(value.count(name) > 1 for name in value):
            raise refusal(path, expected, value)
        for name in value:
            if name not in names:
                raise refusal(path, expected, name)
        return tuple(name for name in names if name in value)

    return read


def integer(least: int, most: int) -> Reader:
    """Read an integer within bounds; a boolean is none."""
    return value(f"an integer from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def duration(value: object, path: str) -> float:
    """Read a number with its unit; return seconds."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", value) if isinstance(value, str) else None
    seconds = Decimal(found[1]) * _SECONDS[found[2]] if found else None
    if seconds is None or not _MIN_DURATION <= seconds <= _MAX_DURATION:
        hint = "" if found else "write a number and its unit: ms, s, m or h"
        raise refusal(path, 'a duration from "100ms" to "24h", such as "5s"', value, hint)
    return float(seconds)


_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def amount(least: int, most: int, what: str) -> Reader:
    """Read an integer, or a number with its decimal unit; ``what`` is counted."""

    def read(value: object, path: str) -> int:
        found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,12})?)([kMGT]?)", value) if isinstance(value, str) else None
        amount = Decimal(found[1]) * _UNITS[found[2]] if found else value
        if isinstance(amount, Decimal) and amount == int(amount):
            amount = int(amount)
        if type(amount) is not int or not least <= amount <= most:
            raise refusal(path, f'{what} from {least} to {most}, such as 64000, "64k", "1.5M" or "1G"', value)
        return amount

    return read


BOOLEAN: Final = value("true or false", lambda value: isinstance(value, bool))


def is_pattern(text: str) -> bool:
    """Tell whether a name is a shell pattern."""
    return re.search(r"[*?\[]", text) is not None


def is_altname(text: str) -> bool:
    """Tell whether a name is too long for an interface's own: then it can only be an altname."""
    return not is_pattern(text) and size(text) > _MAX_NAME_BYTES


def _is_interface(text: str) -> bool:
    """Tell whether dev_valid_name() of net/core/dev.c would take ``text``, and it is not likely to mean another."""
    longest = _MAX_PATTERN_BYTES if is_pattern(text) else _MAX_ALTNAME_BYTES
    if re.search(r"[/:\s\0\ud800-\udc7f\udd00-\udfff]", text):  # surrogates that stand for no byte: of JSON
        return False
    return 1 <= size(text) <= longest and text not in {".", ".."} and not _likely_meaning(text)


def _likely_meaning(text: str) -> str:
    """Return what to write in place of what other commands take, or show, for an interface; nothing if it is a name."""
    if text == "any":
        return 'for every interface write "*"'
    names = re.findall(r"(?:\[[^]]*\]|[^\s,])+", text)  # a pattern may have anything in brackets
    if len(names) > 1:
        return f"write each by itself: {', '.join(map(shown, names))}"
    name, separator, _rest = re.split(r"([@:]|$)", re.sub(r"\[[^]]*\]", "", text), maxsplit=1)
    meanings = {"@": "what it is paired with, or stands on", ":": "an address label"}
    return f'behind "{separator}" is {meanings[separator]}: write {shown(name)}' if name and separator else ""


def _interface(value: object, path: str) -> str:
    if isinstance(value, str) and _is_interface(value):
        return value
    raise refusal(path, _EXPECTED_INTERFACE, value, _likely_meaning(value) if isinstance(value, str) else "")


_EXPECTED_INTERFACE: Final = (
    'an interface (1 to 15 bytes, an altname to 127) or shell pattern (to 64), without "/", ":", "@", "," and space'
)
INTERFACE: Final[Reader] = _interface


def array(
    expected: str, read_item: Reader, *, least: int = 0, noun: str = "", key: str = "name"
) -> Callable[[object, str], tuple[Any, ...]]:
    """Read an array of ``least`` items or more; with a ``noun``, they are tables, and no two have the same ``key``."""

    def read(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise refusal(path, expected, value)
        problems: list[Problem] = []
        items: list[Any] = []
        names: set[str] = set()
        for index, item in enumerate(value):
            here = f"{path}[{index}]"
            try:
                items.append(read_item(item, here))
            except RefusedError as error:
                problems += error.problems
            name = item.get(key) if noun and isinstance(item, dict) else None
            if isinstance(name, str):
                if name in names:
                    problems.append(Problem(f"{here}.{key}", f"expected each {noun} once, got {shown(name)} again"))
                names.add(name)
        if problems:
            raise RefusedError(*problems)
        return tuple(items)

    return read


def table(settings_class: type[TableT]) -> Callable[[object, str], TableT]:
    """Read a table into ``settings_class``: its fields are the keys, and those without a default must be there."""
    options = fields_dict(settings_class)

    def read(value: object, path: str) -> TableT:
        if not isinstance(value, dict):
            raise refusal(path, "a table", value)
        problems: list[Problem] = []
        settings: dict[str, Any] = {}
        for key, item in value.items():
            here = _joined(path, key)
            if key not in options:
                problems.append(Problem(here, f"unknown key, {_hint(key, list(options))}"))
                continue
            _, read_option, _ = get_args(options[key].type)
            try:
                settings[key] = read_option(item, here)
            except RefusedError as error:
                problems += error.problems
        for key, option in options.items():
            if option.default is NOTHING and key not in value:
                problems.append(Problem(_joined(path, key), f"missing: {get_args(option.type)[-1]}"))
        if problems:
            raise RefusedError(*problems)
        return settings_class(**settings)

    return read


def _joined(path: str, key: str) -> str:
    name = key if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key) else shown(key)
    return f"{path}.{name}" if path else name


def _hint(key: str, known: list[str]) -> str:
    near = nearest(key, known)
    return f"did you mean {near}?" if near else f"expected {', '.join(known)}"
