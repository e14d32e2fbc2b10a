"""The alerts of deploy/prometheus are those of docs/alarms.md, and fire where they should, as promtool finds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cnf.server.guard import Guard
from cnf.server.instruments import Instruments
from tests.unit.scraped import daemon

ROOT: Final = Path(__file__).parents[2]
KIT: Final = ROOT / "deploy" / "prometheus"
TESTS: Final = sorted(KIT.glob("tests/*.yml"))
PROMTOOL: Final = Path(sys.executable).with_name("promtool")
"""Put there by deploy/setup.sh --dev."""
DOCUMENTS: Final = "file:///opt/cnf/current/docs"
"""Where deploy/install.sh puts them."""
SECTION: Final = re.compile(
    r"^### (?P<name>\w+)\n\n(?P<severity>\w+), (?:at once|after (?P<time>\w+)):\n\n"
    r"```promql\n(?P<expression>.*?)\n```\n\n(?P<text>.*?)(?=\n#|\Z)",
    re.MULTILINE | re.DOTALL,
)
CODE: Final = re.compile(r"```promql\n(.*?)```|`([^`\n]*)`", re.DOTALL)
QUERY: Final = re.compile(r"\b(?:cnf_\w+|up\{).* [=<>!]=? ", re.DOTALL)
"""A comparison of metrics, which is what an alert is."""
LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")
METRIC: Final = re.compile(r"\bcnf_\w+")


def rules(file: str) -> dict[str, dict[str, Any]]:
    """Return the rules of a file by their names."""
    groups = yaml.safe_load((KIT / file).read_text(encoding="utf-8"))["groups"]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


ALERTS: Final = rules("alerts.yml")


def joined(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def firing(test: dict[str, Any]) -> list[str]:
    """Return the alerts that a test of promtool expects to fire, each with its labels; "" where it expects none."""
    return [
        sample["labels"] if sample else ""
        for query in test["promql_expr_test"]
        if query["expr"] == 'ALERTS{alertstate="firing"}'
        for sample in query["exp_samples"] or [None]
    ]


def alert_tests() -> dict[str, list[str]]:
    """Return what each test of an alert expects to fire, by the test's name."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in TESTS]
    return {test["name"]: firing(test) for document in documents for test in document["tests"] if firing(test)}


def test_the_document_has_every_alert_as_the_file_has_it() -> None:
    """Severity, time, expression and what to do are the same in both; in the file what to do has no links."""
    document = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    documented = {
        section["name"]: (
            section["severity"],
            section["time"],
            joined(section["expression"]),
            joined(LINK.sub(r"\1", section["text"])),
        )
        for section in SECTION.finditer(document)
    }

    assert documented == {
        name: (
            alert["labels"]["severity"],
            alert.get("for"),
            joined(alert["expr"]),
            joined(alert["annotations"]["description"]),
        )
        for name, alert in ALERTS.items()
    }


def test_no_document_recommends_an_alert_that_is_none() -> None:
    """Whatever comparison of metrics README.md or docs/ has, is that of an alert."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    found = {
        joined(fence or code) for text in texts for fence, code in CODE.findall(text) if QUERY.search(fence + code)
    }

    assert found == {joined(alert["expr"]) for alert in ALERTS.values()}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_links_to_what_to_do(name: str) -> None:
    """The link leads to the alert's heading, where the documents are installed."""
    assert ALERTS[name]["annotations"]["runbook_url"] == f"{DOCUMENTS}/alarms.md#{name.lower()}"


def test_every_alert_is_about_metrics_that_there_are() -> None:
    """A name that no scrape has would never fire."""
    registry = CollectorRegistry()
    Instruments(registry)
    registry.register(Guard(*daemon(), None))  # type: ignore[arg-type] # nothing fails, nothing is logged
    families = text_string_to_metric_families(generate_latest(registry).decode())
    names = {sample.name for family in families for sample in family.samples}

    assert {name for alert in ALERTS.values() for name in METRIC.findall(alert["expr"])} <= names


def test_every_alert_is_tested() -> None:
    """For each alert promtool has a test in which nothing fires, and then it alone does."""
    assert alert_tests().keys() == ALERTS.keys()
    for name, fired in alert_tests().items():
        assert [f'alertname="{name}"' in labels for labels in fired] == [False, True]
        assert fired[0] == ""


@pytest.mark.parametrize("name", ALERTS)
def test_a_summary_names_labels_that_its_alert_has(name: str) -> None:
    """Prometheus shows nothing for a label that is not there."""
    summary = ALERTS[name]["annotations"]["summary"]

    assert "instance" in (named := re.findall(r"\$labels\.(\w+)", summary))
    assert [label for label in named if f'{label}="' not in alert_tests()[name][-1]] == []


@pytest.mark.parametrize("arguments", [("check", "rules", *KIT.glob("*.yml")), ("test", "rules", *TESTS)])
def test_promtool_finds_all_well(arguments: tuple[str | Path, ...]) -> None:
    """The files are valid, and do what the tests beside them say."""
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
