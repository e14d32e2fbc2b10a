"""The dashboards of deploy/grafana can be imported, or provisioned, as they are."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BOARDS: Final[dict[str, dict[str, Any]]] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("deploy/grafana/*.json")
}
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


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
