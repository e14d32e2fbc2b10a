"""The documents have short lines, and their links, anchors and paths lead to what there is."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")))
WIDTH: Final = 119
FENCE: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"`([^`\n]+)`")
FOLDERS: Final = ("cnf", "bench", "deploy", "docs", "systemd", "tests", ".ci")
SHORT: Final = re.compile(r"[\w/]+\.(?:py|h)")
"""A module of cnf/, or a header of cnf/bpf/, as docs/architecture.md has it."""


def read(document: str) -> str:
    """Return a document's text."""
    return (ROOT / document).read_text(encoding="utf-8")


def anchors(document: str) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    kept = {*string.ascii_lowercase, *string.digits, " ", "-", "_"}
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", read(document)), re.MULTILINE)
    return {"".join(letter for letter in title.lower() if letter in kept).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_lines_are_short(document: str) -> None:
    """No line of a document has 120 characters or more."""
    assert [number for number, line in enumerate(read(document).splitlines(), 1) if len(line) > WIDTH] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """A relative link leads to a file that there is, and to a heading in it."""
    for target in LINK.findall(FENCE.sub("", read(document))):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        assert file.exists(), target
        assert not anchor or anchor in anchors(str(file.relative_to(ROOT))), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_are_there(document: str) -> None:
    """Each path of the project that a document or a picture in it has is there."""
    blocks = FENCE.findall(read(document))
    words = {word for code in CODE.findall(FENCE.sub("", read(document))) for word in code.split()}
    words |= {word for block in blocks for word in re.findall(r"[\w./-]+", block.replace("<br/>", " "))}
    for word in words:
        if "/" in word and word.partition("/")[0] in FOLDERS:
            assert list(ROOT.glob(word.rstrip("/"))), word
        elif SHORT.fullmatch(word):
            assert list((ROOT / "cnf").rglob(word)), word
