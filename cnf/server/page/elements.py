"""HTML as elements: what they contain is escaped where it is written out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

from cnf.units import printable

Content = Element | str
DOCTYPE: Final = "<!DOCTYPE html>\n"


def element(tag: str, *content: Content, **attributes: str | float) -> Element:
    """Return an element. In names of attributes, ``_`` stands for a hyphen, and one at the end is left out."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    for each in content:
        if isinstance(each, Element):
            made.append(each)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(each)
        else:
            made.text = (made.text or "") + printable(each)
    return made


def table(heads: Sequence[str], rows: Iterable[Sequence[Content]], numbers: int) -> Element:
    """Return a table; its last ``numbers`` columns stand at the right."""
    first = len(heads) - numbers

    def line(tag: str, cells: Sequence[Content]) -> Element:
        return element(
            "tr", *(element(tag, cell, class_="number" if i >= first else "text") for i, cell in enumerate(cells))
        )

    body = element("tbody", *(line("td", row) for row in rows))
    return element("div", element("table", element("thead", line("th", heads)), body), class_="wide")


def section(title: str, *content: Content) -> Element:
    """Return a part of the page under its heading."""
    return element("section", element("h2", title), *content)


def document(head: Sequence[Element], body: Sequence[Element]) -> str:
    """Return a whole page."""
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return DOCTYPE + tostring(page, encoding="unicode", method="html") + "\n"
