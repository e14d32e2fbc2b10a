"""The tables of docs/reference.md have all that there is: commands, options, metrics, log events and the rest."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from prometheus_client import CollectorRegistry

from cnf import cli, config, errors
from cnf.abi import DROP_REASONS, EVENT_KINDS, INSERT_ERRORS, PROTOCOL_LABELS, UNPARSED_REASONS, VERDICTS
from cnf.cli.api.replies import LEDGER_STATES, Exporter, Records
from cnf.daemon.reload import FIXED_AT_START
from cnf.export import lines
from cnf.filter.grammar import compile_filter
from cnf.flows import fields
from cnf.flows.groups import EXPECTED, SORTS
from cnf.limiter import sources
from cnf.limits.table import Limits, PrefixSet, Rule
from cnf.recording import Export, History, Ipfix, JsonLines
from cnf.server.access import REASONS
from cnf.server.guard import Guard
from cnf.server.instruments import Instruments
from tests.unit.scraped import daemon

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
CODE: Final = re.compile(r"`([^`\n]+)`")
LEVELS: Final = ("debug", "info", "warning", "error")
TABLES: Final[dict[str, type[Any]]] = {
    "interfaces": config.Interface,
    "flows": config.Flows,
    "metrics": config.Metrics,
    "control": config.Control,
    "log": config.Log,
    "export": Export,
    "export.ipfix": Ipfix,
    "export.json": JsonLines,
    "history": History,
    "limits": Limits,
    "limits.rules": Rule,
    "limits.sets": PrefixSet,
}


def table(heading: str) -> dict[str, list[str]]:
    """Return the further cells of each row of the first table below a heading, by the names in the row's first cell."""
    found = re.search(rf"^##+ {heading}\n(?:(?!\|).*\n)*((?:\|.*\n)+)", REFERENCE, re.MULTILINE)
    assert found is not None
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in found[1].splitlines()[2:]]
    return {name: cells for first, *cells in rows for name in CODE.findall(first) or [first]}


@cache
def modules() -> list[ast.Module]:
    """Return all of cnf."""
    return [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "cnf").rglob("*.py")]


def constants() -> set[str]:
    """Return every text in cnf."""
    nodes = (node for module in modules() for node in ast.walk(module))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def log_calls() -> Iterator[tuple[str, str]]:
    """Yield the log events that the code writes, each with its level."""
    for node in (node for module in modules() for node in ast.walk(module)):
        match node:
            case ast.Call(ast.Attribute(logger, level), [ast.Constant(str(event)), *_]) if level in LEVELS:
                if ast.unparse(logger).rstrip("()").endswith(("log", "logger")):
                    yield event, level


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the names of a parser's commands that have none below them, or can do without."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001
    for name, inner in (below[0].choices if below else {}).items():
        names = list(commands(inner))
        yield from [name] if not names else [f"{name} {each}" for each in names]


def options(settings: type[Any], table: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the key path of each option, and its default."""
    for option in attrs.fields(settings):
        path = f"{table}{option.name}"
        yield from options(TABLES[path], f"{path}.") if path in TABLES else [(path, option.default)]


def written(default: object) -> str:
    """Return how the reference has a default."""
    if default is attrs.NOTHING or default is None:
        return "none" if default is None else "required"
    if isinstance(default, bool | tuple):
        return f"`{json.dumps(default)}`"
    if isinstance(default, float):
        return f'`"{default / 3600:g}h"`' if default % 3600 == 0 else f'`"{default:g}s"`'
    return f"`{default}`" if isinstance(default, int) else f'`"{default}"`'


def test_every_command_is_in_the_reference() -> None:
    """The reference has each command of cnfctl, and no other."""
    documented = {" ".join(re.findall(r"\b[a-z]+\b", name)) for name in table("Commands")}
    aliases = {
        "limits list": "limits",
        "limits allow list": "limits allow",
        "limits deny list": "limits deny",
        "limits allow remove": "limits allow add",
        "limits deny remove": "limits deny add",
    }

    expected = {f"cnfctl {aliases.get(name, name)}" for name in commands(cli.parser())}
    assert documented == expected | {"cnfd"}


@pytest.mark.parametrize("expression", table("Filters"))
def test_every_filter_of_the_reference_can_be_typed(expression: str) -> None:
    """What the reference has for a filter is one."""
    compile_filter(expression.replace("\\|", "|"))


def test_every_exit_status_is_in_the_reference() -> None:
    """The reference has each exit status that a command can end with."""
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.CnfError)]
    signals = {128 + 2, 128 + 13, 128 + 15}
    documented = {int(status) for statuses in table("Exit statuses") for status in statuses.split(", ")}

    expected = {each.exit_status for each in classes if each is not errors.CnfError}
    assert documented == expected | {os.EX_OK, os.EX_SOFTWARE, os.EX_IOERR} | signals


def test_every_option_is_in_the_reference() -> None:
    """The reference has each option, its default, and whether a reload or a restart changes it."""
    fixed = {f"{name}.{key}" for name, keys in FIXED_AT_START for key in keys} | {"max_interfaces"}
    expected = {
        path: [written(default), "restart" if path in fixed else "reload"] for path, default in options(config.Settings)
    }
    expected["flows.table"][0] = "by processor"

    assert {path: cells[:2] for path, cells in table("Options").items()} == expected


def test_every_metric_is_in_the_reference() -> None:
    """The reference has each metric with its labels, and the values of labels that have few."""
    registry = CollectorRegistry()
    Instruments(registry)
    registry.register(Guard(*daemon(), None))  # type: ignore[arg-type] # nothing fails, nothing is logged
    labels = {
        family.name + "_total" * (family.type == "counter"): {name for each in family.samples for name in each.labels}
        for family in registry.collect()
    }
    labels["cnf_drain_duration_seconds"].clear()  # its buckets' own
    values = REFERENCE.partition("| label |")[2].partition("\n\n")[0].splitlines()[2:]

    assert {name: set(re.findall(r"\w+", cells[0])) for name, cells in table("Metrics").items()} == labels
    assert [CODE.findall(row)[1:] for row in values] == [
        list(PROTOCOL_LABELS),
        list(UNPARSED_REASONS),
        list(DROP_REASONS),
        list(INSERT_ERRORS),
        list(VERDICTS),
        list(LEDGER_STATES),
        list(EVENT_KINDS),
        list(REASONS),
    ]


def test_every_log_event_is_in_the_reference() -> None:
    """The reference has each event with its level, and none that nothing writes."""
    documented = {event: cells[0] for event, cells in table("Log events").items()}

    assert dict(log_calls()).items() <= documented.items()
    assert documented.keys() <= constants()


def test_every_path_of_the_servers_is_in_the_reference() -> None:
    """The reference has what the two servers answer to."""
    paths = {each for each in constants() if re.fullmatch(r"/(v1/[a-z/]+|metrics|healthz|readyz|style\.css)", each)}

    assert set(re.findall(r"^\| `(/[^`]+)` \|", REFERENCE, re.MULTILINE)) == paths


def test_every_field_is_in_the_reference() -> None:
    """The reference has the fields of a flow and of a source in their order, and each kind of event."""
    assert list(table("A flow")) == list(fields.FIELDS)
    assert list(table("A flow") | table("A connection")) == list(fields.PAIR_FIELDS)
    assert list(table("A group")) == [*SORTS, "share"]
    assert all(f"`{word.strip()}`" in REFERENCE for word in EXPECTED.split(","))
    assert list(table("A source")) == list(sources.FIELDS)
    assert list(table("A record")) == ["seq", *lines.RECORD_FIELDS]
    *stream, history = Records.__annotations__
    assert list(table("Records in the status")) == [*stream, *Exporter.__annotations__, history]
    assert list(table("An event")) == list(EVENT_KINDS)
