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


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[Content]], numbers: int) -> Element:
    """Return a table; its last ``numbers`` columns stand at the right, and the first one says what a row is about.

    Who hears the page is told its ``name``; who has a keyboard only can scroll it where it is too wide.
    """
    first = len(heads) - numbers

    def line(cells: Sequence[Content], scopes: Sequence[str]) -> Element:
        made = element("tr")
        for place, (cell, scope) in enumerate(zip(cells, scopes, strict=True)):
            side = "number" if place >= first else "text"
            made.append(element("th", cell, scope=scope, class_=side) if scope else element("td", cell, class_=side))
        return made

    head = element("thead", line(heads, ["col"] * len(heads)))
    body = element("tbody", *(line(row, ["row"] + [""] * (len(heads) - 1)) for row in rows))
    return element("div", element("table", head, body), class_="wide", role="region", aria_label=name, tabindex=0)


def section(title: str, *content: Content) -> Element:
    """Return a part of the page under its heading."""
    return element("section", element("h2", title), *content)


def document(head: Sequence[Element], body: Sequence[Element]) -> str:
    """Return a whole page."""
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return DOCTYPE + tostring(page, encoding="unicode", method="html") + "\n"
