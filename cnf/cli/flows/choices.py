"""What a user who watches flows has chosen, and the keys that change it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

HELP: Final = (
    ("< >", "sort by another column"),
    ("g G", "group by source, destination, port, ..., or by connection"),
    ("/", "type a filter, as in tcpdump; Enter takes it, Escape does not"),
    ("i I", "show another interface only, or all"),
    ("u", "rates in bytes or bits"),
    ("space", "pause, and go on"),
    ("? q", "this page; quit"),
)
PAIRS: Final = "connections"
"""In place of what flows are grouped by: both directions in one row."""
WAYS: Final = (None, PAIRS, "src", "dst", "pair", "port", "src-net/24", "net/24", "protocol", "interface")
SORTS: Final = ("bytes", "packets", "dropped_packets", "rate", "pps")
"""From column to column; groups are sorted by their flows, too."""

Value = TypeVar("Value")

_SEQUENCE: Final = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]")
"""An arrow, a function key, ... in a terminal's words."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What to show, and how."""

    sort: str
    way: str | None = None
    """What to group by, PAIRS, or None for flows by themselves."""
    filter: str | None = None
    interface: str | None = None
    """The only one to show; None for all."""
    octets: bool = False
    """Whether rates are in bytes."""
    paused: bool = False
    help: bool = False
    custom: str | None = None
    """What the command line asked to group by: it has a place among the others."""
    typed: str | None = None
    """A filter that is being typed."""

    @property
    def expression(self) -> str | None:
        """Return the filter that all of this makes."""
        only = f"iface {self.interface}" if self.interface is not None else None
        if only and self.filter and self.filter.strip():
            return f"({self.filter}) and {only}"
        return only or self.filter


def pressed(choices: Choices, keys: str, interfaces: Sequence[str]) -> Choices | None:
    """Return the choices after some keys; None to quit. ``interfaces`` are those that can be chosen."""
    for key in _SEQUENCE.sub("", keys):
        if choices.typed is not None:
            choices = replace(choices, **_typed(choices.typed, key))
        elif key in "qQ":
            return None
        else:
            choices = replace(choices, **_chosen(choices, key, interfaces))
    return choices


def _typed(text: str, key: str) -> dict[str, Any]:
    """Return what a key changes while a filter is being typed."""
    match key:
        case "\r" | "\n":
            return {"typed": None, "filter": text if text.strip() else None}
        case "\x1b":
            return {"typed": None}
        case "\x7f" | "\b":
            return {"typed": text[:-1]}
        case "\x15":  # Ctrl-U
            return {"typed": ""}
    return {"typed": text + key} if key.isprintable() else {}


def _chosen(choices: Choices, key: str, interfaces: Sequence[str]) -> dict[str, Any]:
    """Return what a key changes."""
    changes: dict[str, Any] = {}
    match key:
        case "<" | "," | ">" | ".":
            sorts = SORTS if choices.way in {None, PAIRS} else ("flows", *SORTS)
            changes["sort"] = _next(sorts, choices.sort, back=key in "<,")
        case "g" | "G":
            ways = WAYS if choices.custom in WAYS else (*WAYS, choices.custom)
            changes["way"] = _next(ways, choices.way, back=key == "G")
            changes["sort"] = choices.sort if choices.sort in SORTS else "rate"
        case "i" | "I":
            changes["interface"] = _next((None, *interfaces), choices.interface, back=key == "I")
        case "/":
            changes["typed"] = choices.filter or ""
        case "u":
            changes["octets"] = not choices.octets
        case " ":
            changes["paused"] = not choices.paused
        case "?" | "h":
            changes["help"] = not choices.help
    return changes


def _next(values: Sequence[Value], value: Value, *, back: bool) -> Value:
    """Return the neighbour of a value, round and round; of one that is not there, the first."""
    place = values.index(value) if value in values else -1 if not back else 1
    return values[(place + (-1 if back else 1)) % len(values)]
