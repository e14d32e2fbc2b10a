"""The alarms that README.md and docs/ recommend go off where they should, as Prometheus' own promtool finds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cnf.server.metrics import Guard, Instruments
from tests.unit.server.test_metrics import daemon

ROOT: Final = Path(__file__).parents[2]
PROMTOOL: Final = Path(sys.executable).with_name("promtool")
"""Put there by deploy/setup.sh --dev."""
FENCE: Final = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE: Final = re.compile(r"`([^`\n]*)`")
QUERY: Final = re.compile(r"\b(?:cnf_\w+|up\{).* [=<>!]=? ")
"""A comparison of metrics, which is what an alarm is."""
METRIC: Final = re.compile(r"\bcnf_\w+")

HEALTHY, BROKEN = "well", "ill"
MINUTES: Final = 30
STEADY, RISING = f"0x{MINUTES}", f"0+60x{MINUTES}"
"""A counter, by the minute."""

Series = dict[str, tuple[str, str]]
"""What a node shows: its values, by the minute, where all is well, and where it is not."""


def counter(*series: str) -> list[Series]:
    """Return what each of the counters is where nothing happens, and where something does."""
    return [{name: (STEADY, RISING)} for name in series]


def gauge(series: str, healthy: float, broken: float) -> list[Series]:
    """Return what a gauge is."""
    return [{series: (f"{healthy}x{MINUTES}", f"{broken}x{MINUTES}")}]


ATTACHED: Final = 'cnf_interface_attached{direction="ingress",interface="eth0",mode="native"}'
RECEIVED: Final = 'cnf_received_packets_total{interface="eth0",protocol="tcp"}'
UNPARSED: Final = 'cnf_unparsed_packets_total{interface="eth0",reason="truncated"}'
FILL: Final = 'cnf_flow_table_fill_ratio{family="ipv6"}'
TROUBLES: Final[dict[str, list[Series]]] = {
    "cnf_flow_table_fill_ratio > 0.9 or rate(cnf_flows_evicted_total[5m]) > 0": [
        *gauge(FILL, 0.9, 0.91),
        *counter("cnf_flows_evicted_total"),
    ],
    "max by (instance, interface) (cnf_interface_attached) == 0 or cnf_drain_age_seconds > 60": [
        *gauge(ATTACHED, 1, 0),
        *gauge("cnf_drain_age_seconds", 60, 61),
    ],
    'up{job="cnf"} == 0': gauge('up{job="cnf"}', 1, 0),
    "max by (instance, interface) (cnf_interface_attached) == 0": gauge(ATTACHED, 1, 0),
    "cnf_drain_age_seconds > 60": gauge("cnf_drain_age_seconds", 60, 61),
    "increase(cnf_drain_errors_total[10m]) > 0": counter("cnf_drain_errors_total"),
    "cnf_flow_table_fill_ratio > 0.9": gauge(FILL, 0.9, 0.91),
    "rate(cnf_flows_evicted_total[5m]) > 0": counter("cnf_flows_evicted_total"),
    "increase(cnf_events_lost_total[10m]) > 0": counter('cnf_events_lost_total{kind="first_drop"}'),
    "increase(cnf_export_lost_total[10m]) > 0": counter('cnf_export_lost_total{exporter="192.0.2.9:4739"}'),
    "increase(cnf_history_write_errors_total[10m]) > 0": counter("cnf_history_write_errors_total"),
    "rate(cnf_flow_insert_errors_total[5m]) > 0": counter('cnf_flow_insert_errors_total{reason="busy"}'),
    "sum by(instance)(rate(cnf_unparsed_packets_total[5m]))"
    " / sum by(instance)(rate(cnf_received_packets_total[5m])) > 0.01": [
        {RECEIVED: ("0+6000x30", "0+6000x30"), UNPARSED: ("0+60x30", "0+61x30")}
    ],
    'sum by (instance, rule) (rate(cnf_limit_packets_total{verdict="limited"}[5m])) > 0': [
        {
            'cnf_limit_packets_total{rule="r",verdict="limited"}': (STEADY, RISING),
            'cnf_limit_packets_total{rule="r",verdict="would_limit"}': (RISING, STEADY),
        }
    ],
    "rate(cnf_limiter_evictions_total[5m]) > 0": counter("cnf_limiter_evictions_total"),
    "rate(cnf_limiter_insert_errors_total[5m]) > 0": counter("cnf_limiter_insert_errors_total"),
    "cnf_limiter_protected > 0": gauge("cnf_limiter_protected", 0, 1),
    "cnf_config_last_reload_successful == 0": gauge("cnf_config_last_reload_successful", 1, 0),
    "cnf_collector_success == 0": gauge('cnf_collector_success{collector="ledger"}', 1, 0),
    "rate(cnf_series_suppressed_total[10m]) > 0": counter('cnf_series_suppressed_total{collector="top_flows"}'),
    "increase(cnf_log_lines_lost_total[15m]) > 0": counter("cnf_log_lines_lost_total"),
    "increase(cnf_log_lines_suppressed_total[15m]) > 0": counter("cnf_log_lines_suppressed_total"),
    "cnf_interface_attached == 0": gauge(
        'cnf_interface_attached{direction="egress",interface="eth0",mode="auto"}', 1, 0
    ),
    "cnf_interface_coverage_ratio < 0.9": gauge(
        'cnf_interface_coverage_ratio{direction="egress",interface="eth0"}', 0.9, 0.89
    ),
    'cnf_interface_attached{mode="generic"} == 1': [
        {
            ATTACHED: (f"1x{MINUTES}", f"_x{MINUTES}"),
            ATTACHED.replace("native", "generic"): (f"_x{MINUTES}", f"1x{MINUTES}"),
        }
    ],
}
"""Each expression, and every trouble that it is to find."""


def expressions() -> Iterator[str]:
    """Yield the alarms of the documentation."""
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for block in FENCE.findall(text):
            yield from (line.partition("  #")[0].strip() for line in block.splitlines())
        yield from (code for code in CODE.findall(FENCE.sub("", text)) if QUERY.search(code))


def on(instance: str, series: str) -> str:
    """Return a series as it stands for one node."""
    name, _, labels = series.removesuffix("}").partition("{")
    return f"{name}{{{labels}{',' if labels else ''}instance={json.dumps(instance)}}}"


def case(expression: str, series: Series, nodes: dict[str, int], found: list[str]) -> dict[str, Any]:
    """Return promtool's test that of these nodes, each well (0) or ill (1), the expression finds just ``found``."""
    return {
        "interval": "1m",
        "input_series": [
            {"series": on(instance, name), "values": values[state]}
            for instance, state in nodes.items()
            for name, values in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"group by (instance) ({expression})",
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": f"{{instance={json.dumps(instance)}}}", "value": 1} for instance in found],
            }
        ],
    }


def test_every_alarm_of_the_documentation_is_tried_here() -> None:
    """No alarm is recommended that nobody has tried, and none tried that is recommended no more."""
    assert set(expressions()) == TROUBLES.keys()


def test_every_alarm_is_about_metrics_that_there_are() -> None:
    """A name that no scrape has would never go off."""
    registry = CollectorRegistry()
    Instruments(registry)
    registry.register(Guard(*daemon(), None))  # type: ignore[arg-type] # nothing fails, nothing is logged
    families = text_string_to_metric_families(generate_latest(registry).decode())
    names = {sample.name for family in families for sample in family.samples}

    assert {name for expression in TROUBLES for name in METRIC.findall(expression)} <= names


def test_an_alarm_goes_off_for_the_node_that_is_ill_and_for_no_other(tmp_path: Path) -> None:
    """A broken node is named, whatever is wrong and however well another one is; for two healthy ones nothing is."""
    tests = [
        case(expression, series, nodes, found)
        for expression, troubles in TROUBLES.items()
        for series in troubles
        for nodes, found in (
            ({HEALTHY: 0, "also well": 0}, []),
            ({BROKEN: 1}, [BROKEN]),
            ({HEALTHY: 0, BROKEN: 1}, [BROKEN]),
        )
    ]
    file = tmp_path / "alarms.json"  # which is YAML
    file.write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
