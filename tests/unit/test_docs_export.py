"""The tables of docs/export.md have what is sent, and why it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cnf.export.collector import REASONS
from cnf.export.templates import FLOWS, OPTIONS

DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_every_element_is_in_the_table() -> None:
    """Each with its number and its name, and none that is not sent."""
    rows = re.findall(r"^\| ([\d, ]+) \| ([\w, ]+) \|", DOCUMENT, re.MULTILINE)
    documented = {pair for numbers, names in rows for pair in zip(numbers.split(", "), names.split(", "), strict=True)}

    templates = (*FLOWS.values(), *OPTIONS)
    assert documented == {(str(each.number), each.name) for template in templates for each in template.elements}


def test_every_reason_is_in_the_table() -> None:
    """As the label of the metric has it."""
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT.partition("## JSON lines")[0], re.MULTILINE) == [*REASONS]
