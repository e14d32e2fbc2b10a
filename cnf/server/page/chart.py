"""Charts of a day as SVG. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from cnf.server.page.elements import element

WIDTH: Final = 720
HEIGHT: Final = 150
TOP: Final = 18
"""Room above for the largest value."""
BOTTOM: Final = 20
"""Room below for the times."""

Line = npt.NDArray[np.float64]


def chart(
    title: str, lines: Mapping[str, Line], hours: Sequence[tuple[float, str]], written: Callable[[float], str]
) -> Element:
    """Return a chart of ``lines``, by what they show: shape (N,), NaN where nothing is known.

    ``hours`` stand below: where, from 0 to 1, and what. ``written`` says a value.
    """
    largest = max((float(np.nanmax(line)) for line in lines.values() if not np.isnan(line).all()), default=0.0)
    drawn = [
        element("path", d=" ".join(_path(line, largest or 1.0)), class_=f"line{number}")
        for number, line in enumerate(lines.values())
    ]
    base = HEIGHT - BOTTOM
    marks = [
        mark
        for place, text in hours
        for mark in (
            element("line", x1=_at(place), x2=_at(place), y1=TOP, y2=base, class_="grid"),
            element("text", text, x=_at(place), y=HEIGHT - 5, class_="hour"),
        )
    ]
    svg = element(
        "svg",
        element("title", f"{title}: at most {written(largest)}"),
        element("line", x1=0, x2=WIDTH, y1=base, y2=base, class_="axis"),
        element("line", x1=0, x2=WIDTH, y1=TOP, y2=TOP, class_="grid"),
        *marks,
        *drawn,
        element("text", written(largest), x=2, y=TOP - 5),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
    keys = [element("span", name, class_=f"key line{number}") for number, name in enumerate(lines)]
    for key in keys[:-1]:
        key.tail = " "  # without a style sheet the words would be one
    return element("figure", element("figcaption", element("b", f"{title} "), *keys), svg)


def _path(line: Line, largest: float) -> Iterator[str]:
    """Yield the steps of a path, which is interrupted where nothing is known."""
    step, base = WIDTH / len(line), HEIGHT - BOTTOM
    before = np.nan
    for number, value in enumerate(line.tolist()):
        if not np.isnan(value):
            y = base - value / largest * (base - TOP)
            yield f"{'M' if np.isnan(before) else 'L'}{number * step:.1f} {y:.1f}H{(number + 1) * step:.1f}"
        before = value


def _at(place: float) -> str:
    return f"{place * WIDTH:.1f}"
