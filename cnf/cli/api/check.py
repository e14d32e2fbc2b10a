"""Check that an answer of cnfd has its type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Final, Union, get_args, get_origin, get_type_hints, is_typeddict

from cnf.cli.api.replies import Timestamp

_LARGEST: Final = 1e24
"""Far above every 64-bit counter. Infinity and NaN, which would break arithmetic, are not below it."""


def check(value: object, kind: object, path: str = "reply") -> None:
    """Check that ``value`` is of ``kind``; further keys are allowed.

    Raises:
        ValueError: it is not; the message names the path of the wrong part.

    """
    if get_origin(kind) in {Union, UnionType}:  # "... | None" is the only union among the replies
        if value is None:
            return
        kind = get_args(kind)[0]
    for key, part, part_kind in _parts(value, kind, path):
        check(part, part_kind, f"{path}.{key}")


def _parts(value: object, kind: object, path: str) -> Iterable[tuple[object, object, object]]:
    """Return the parts of ``value``, each with its key and its kind. Raises ValueError if ``value`` itself is wrong."""
    if isinstance(value, dict) and is_typeddict(kind):
        kinds = _keys(kind)
        if missing := kinds.keys() - value.keys():
            message = f"{path} has no {min(missing)}"
            raise ValueError(message)
        return ((key, value[key], kinds[key]) for key in kinds)
    if isinstance(value, dict) and get_origin(kind) is dict:
        return ((key, part, get_args(kind)[1]) for key, part in value.items())
    if isinstance(value, list) and get_origin(kind) is list:
        return ((index, part, get_args(kind)[0]) for index, part in enumerate(value))
    if _is_scalar(value, kind):
        return ()
    message = f"{path} is {value!r:.40}"
    raise ValueError(message)


def _is_scalar(value: object, kind: object) -> bool:
    if kind is Timestamp:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    if kind is float:
        return isinstance(value, int | float) and abs(value) < _LARGEST
    if kind is int:
        return isinstance(value, int) and abs(value) < _LARGEST
    return kind is type(value)


@cache
def _keys(kind: object) -> dict[str, object]:
    return get_type_hints(kind)
