"""The dashboards of deploy/grafana show something, and its rules record: a real Prometheus scrapes a real cnfd."""

from __future__ import annotations

import json
import math
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.net.conftest import Node
from tests.net.prometheus import Prometheus
from tests.net.wait import wait_for

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
BOARDS: Final = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DEPLOY.glob("grafana/*.json")}
TARGET: Final = "127.0.0.1:9995"
VARIABLES: Final = {"$instance": TARGET, "$interface": "n0", "$__rate_interval": "10s", "$__range": "1m"}
"""What Grafana puts in their place."""
FAR, DENIED = "192.0.2.1", "192.0.2.3"
LABEL_VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")
LIMITS: Final = {
    "mode": "enforce",
    "deny": ["198.51.100.0/24"],
    "rules": [{"name": "slow", "prefixes": ["0.0.0.0/0"], "packets_per_second": 100, "burst_packets": 10}],
}
SOME_LOOKS: Final = 60.0
"""Seconds for what comes with a look at the interfaces, of which there is one in ten."""


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    """Have a Prometheus scrape a daemon whose node receives and sends, some of it over a limit."""
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0")
        node.inside.ip("address", "add", "192.0.2.2/24", "dev", "n0")
        for address in (FAR, DENIED):
            node.outside.ip("address", "add", f"{address}/24", "dev", wire.far_name)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnf-t-")))
        limits = LIMITS | {"sets": [_set(folder, "feed", DENIED, "enforce"), _set(folder, "watched", FAR, "shadow")]}
        daemon = node.daemon(limits=limits)
        daemon.configure([{"name": "n0", "mode": "tc", "directions": ["ingress", "egress"]}], limits=limits)
        daemon.start()
        stack.enter_context(_traffic(node))
        yield stack.enter_context(Prometheus(node.inside, folder, TARGET, f"{DEPLOY}/prometheus/*.yml"))


@contextmanager
def _traffic(node: Node) -> Iterator[None]:
    """Send some 400 datagrams a second to and fro, for the length of the block."""
    enough = threading.Event()
    with (
        node.inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        node.outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        node.outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as denied,
    ):
        near.bind(("192.0.2.2", 7000))
        far.bind((FAR, 7001))
        denied.bind((DENIED, 7001))

        def send() -> None:
            while not enough.wait(0.05):
                denied.sendto(bytes(500), ("192.0.2.2", 7000))
                for _ in range(20):
                    near.sendto(bytes(500), (FAR, 7001))
                    far.sendto(bytes(500), ("192.0.2.2", 7000))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


def _set(folder: Path, name: str, prefix: str, mode: str) -> dict[str, str]:
    """Return a set that denies a prefix."""
    file = folder / name
    file.write_text(f"{prefix}\n", encoding="ascii")
    return {"name": name, "file": str(file), "action": "deny", "mode": mode}


def expressions(board: dict[str, Any]) -> Iterator[str]:
    """Yield the expressions of all panels, as they reach Prometheus."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            yield expression


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_shows_something(prometheus: Prometheus, name: str) -> None:
    """Each expression of each panel has a value, and one that is a number."""
    silent = [*expressions(BOARDS[name])]
    assert silent

    def all_speak() -> bool:
        silent[:] = [each for each in silent if all(map(math.isnan, prometheus.query(each).values()))]
        return not silent

    wait_for(all_speak, f"values of {silent}", SOME_LOOKS)


@pytest.mark.parametrize("title", ["Denied", "Prefixes", "From sets", "From sets in shadow", "Bits from sets"])
def test_what_is_denied_is_seen(prometheus: Prometheus, title: str) -> None:
    """By the list and by sets, also while a set only counts."""
    (panel,) = (panel for panel in BOARDS["limits"]["panels"] if panel["title"] == title)
    asked = [*expressions({"panels": [panel]})]

    def all_count() -> bool:
        return all(max(prometheus.query(each).values(), default=0) > 0 for each in asked)

    wait_for(all_count, f"{asked} to be more", SOME_LOOKS)


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_has_something_to_choose(prometheus: Prometheus, name: str) -> None:
    """The node and the interface that are there can be chosen."""
    variables = [each for each in BOARDS[name]["templating"]["list"] if each["type"] == "query"]
    for variable in variables:
        found = LABEL_VALUES.fullmatch(variable["query"]["query"].replace("$instance", TARGET))
        assert found is not None
        series, label = found.groups()
        expected = VARIABLES[f"${variable['name']}"]

        def has_values(series: str = series, label: str = label, expected: str = expected) -> bool:
            return bool(prometheus.ask(f"label/{label}/values", **{"match[]": series}) == [expected])

        wait_for(has_values, f"{variable['name']} to be {expected}")


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    """Prometheus takes all rules, none fails, and each that records has recorded."""
    rules: list[dict[str, Any]] = []

    def all_evaluated() -> bool:
        rules[:] = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return bool(rules) and all(rule["health"] != "unknown" for rule in rules)

    wait_for(all_evaluated, "all rules to be evaluated")
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    records = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert records
    wait_for(lambda: all(map(prometheus.query, records)), f"values of {records}")
