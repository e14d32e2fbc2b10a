"""A file with limits, and changes of them."""

from __future__ import annotations

import pytest

from cnf.errors import UsageError
from cnf.limits.changes import read_change
from cnf.limits.overrides import Overrides, apply, difference
from cnf.limits.table import Limits
from tests.unit.rule_sets import networks, rule

FILE = Limits(
    allow=networks("10.0.0.0/8"),
    deny=networks("192.0.2.0/24", "2001:db8::/32"),
    rules=(rule("default", "0.0.0.0/0", "::/0"), rule("dns", "192.0.2.0/24", protocols=("udp",))),
)
EMPTY = Overrides()
SSH = "198.51.100.7 51234 192.0.2.1 22"


def change(body: object, overrides: Overrides = EMPTY, file: Limits = FILE) -> Overrides:
    """Return the overrides after the change that ``body`` asks for."""
    return difference(file, read_change(body).after(apply(file, overrides), file)[0])


def changes(*bodies: dict[str, object]) -> Overrides:
    """Return the overrides after several changes to the file."""
    overrides = EMPTY
    for body in bodies:
        overrides = change(body, overrides)
    return overrides


def words(body: object, overrides: Overrides = EMPTY) -> str:
    """Return a change in words."""
    return read_change(body).after(apply(FILE, overrides), FILE)[1]


def set_rule(name: str, **keys: object) -> dict[str, object]:
    """Return the body that sets ``keys`` of the rule ``name``."""
    return {"op": "set", "rule": {"name": name, **keys}}


def limits(overrides: Overrides) -> Limits:
    """Return the limits in effect."""
    return apply(FILE, overrides).limits


def refused(body: object, overrides: Overrides = EMPTY) -> str:
    """Return in which words a change is refused."""
    with pytest.raises(UsageError) as caught:
        change(body, overrides)
    assert caught.value.exit_status == 64
    return str(caught.value)
