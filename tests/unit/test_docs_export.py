"""The tables of docs/export.md have what is sent, and why it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cnf.export.collector import REASONS
from cnf.export.templates import BIFLOWS, FLOWS, OPTIONS, REVERSE

DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def documented(numbers: str) -> set[tuple[int, str]]:
    """Return the elements of the tables by number and name; ``numbers`` is a pattern of the first cell."""
    rows = re.findall(rf"^\| {numbers} \| ([\w, ]+) \|", DOCUMENT, re.MULTILINE)
    return {
        (int(number), name)
        for numbers, names in rows
        for number, name in zip(numbers.split(", "), names.split(", "), strict=True)
    }


def test_every_element_is_in_the_table() -> None:
    """Each with its number and its name, and none that is not sent; those of the reverse direction by themselves."""
    sent = {each for template in (*FLOWS.values(), *BIFLOWS.values(), *OPTIONS) for each in template.elements}

    assert documented(r"([\d, ]+)") == {(each.number, each.name) for each in sent if not each.enterprise}
    assert documented(rf"{REVERSE}: ([\d, ]+)") == {(each.number, each.name) for each in sent if each.enterprise}


def test_every_reason_is_in_the_table() -> None:
    """As the label of the metric has it."""
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT.partition("## JSON lines")[0], re.MULTILINE) == [*REASONS]
