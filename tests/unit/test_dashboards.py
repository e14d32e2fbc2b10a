"""The dashboards of deploy/grafana can be imported, or provisioned, as they are."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final[dict[str, dict[str, Any]]] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("deploy/grafana/*.json")
}
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
UNITS: Final = {"none", "short", "percentunit", "s", "bytes", "bps", "pps", "cps", "dateTimeAsIso"}
"""Of Grafana's identifiers (packages/grafana-data/src/valueFormats/categories.ts) those that are used."""


def test_there_are_three() -> None:
    """Each has an identity and a title of its own."""
    assert BOARDS.keys() == {"node.json", "limits.json", "fleet.json"}
    for key in ("uid", "title"):
        assert len({board[key] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_the_data_source_is_chosen_in_the_dashboard(name: str) -> None:
    """Nothing is asked for at import, and whatever is queried is asked of the chosen data source."""
    board = BOARDS[name]
    assert not board.keys() & {"__inputs", "__requires", "id"}
    (first, *others) = board["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    queried = [*others, *(panel for panel in board["panels"] if panel["type"] != "row")]
    queried += [target for panel in queried for target in panel.get("targets", ())]
    assert [each for each in queried if each["datasource"] != SOURCE] == []


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_told_apart(name: str) -> None:
    """Each panel has an id of its own, a title, and a description unless it is a row; none covers another."""
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert [panel for panel in panels if not panel["title"]] == []
    assert [panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]] == []
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.parametrize("name", BOARDS)
def test_units_are_those_of_grafana(name: str) -> None:
    """Each panel has a unit that Grafana knows, that of bits where bytes are counted in bits, and of nothing else."""
    for panel in BOARDS[name]["panels"]:
        if panel["type"] != "row":
            unit = panel["fieldConfig"]["defaults"]["unit"]
            assert unit in UNITS, panel["title"]
            bits = {target["expr"].startswith(("8 * ", "topk(20, 8 * ")) for target in panel["targets"]}
            assert bits == {unit == "bps"}, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_legends_tell_series_apart(name: str) -> None:
    """In a panel of lines each series is named, by all of the labels that it is one of."""
    for panel in BOARDS[name]["panels"]:
        if panel["type"] in ("timeseries", "bargauge", "state-timeline"):
            for target in panel["targets"]:
                named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                told = re.search(r"\bby \((.*?)\)", target["expr"])
                assert target["legendFormat"], panel["title"]
                assert not told or named == {*told[1].split(", ")} - {"le"}, panel["title"]
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert len({*legends}) == len(legends), panel["title"]
