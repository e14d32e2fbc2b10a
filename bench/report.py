"""Figures beside what they must reach: one aligned table for people, JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple

LINE: Final = "{:<50}{:>9}{:>9} {:<4} {:<46} {}"
ITSELF: Final = ""


class Bar(NamedTuple):
    """A bound that a figure must keep: one of its ratios, or the median itself."""

    name: str
    limit: float
    hoped: float
    of: str = ITSELF
    least: bool = False
    """The figure must not be below ``limit``, rather than above."""

    def met(self, figure: float, limit: float) -> bool:
        """Tell whether ``figure`` is on the right side of ``limit``."""
        return figure >= limit if self.least else figure <= limit

    def verdict(self, figure: float) -> str:
        """Return the bar in words, and whether it is met."""
        limit = f"{'>=' if self.least else '<='} {self.limit:g}{f' x {self.of}' if self.of else ''}"
        return f"{limit}: {'met' if self.met(figure, self.limit) else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Figure:
    """What one thing took, round by round, and its ratios to others, of the medians."""

    name: str
    unit: str
    values: Sequence[float]
    over: Mapping[str, float] = field(default_factory=dict)
    bars: Sequence[Bar] = ()

    @property
    def median(self) -> float:
        """Return the median round."""
        return median(self.values)

    @property
    def best(self) -> float:
        """Return the least."""
        return min(self.values)

    def judged(self) -> Iterator[tuple[Bar, float]]:
        """Yield the bars, each with the figure that it is about."""
        for bar in self.bars:
            yield bar, self.over[bar.of] if bar.of else self.median

    def line(self) -> str:
        """Return its row of the table."""
        ratios = ", ".join(f"{ratio:.2f} x {other}" for other, ratio in self.over.items())
        verdicts = "; ".join(bar.verdict(figure) for bar, figure in self.judged())
        return LINE.format(
            f"  {self.name}", _number(self.median), _number(self.best), self.unit, ratios, verdicts
        ).rstrip()

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        ratios = {f"over_{key(other)}": ratio for other, ratio in self.over.items()}
        return {"unit": self.unit, "median": self.median, "min": self.best, "rounds": len(self.values), **ratios}


@dataclass(slots=True)
class Section:
    """Figures that were measured together."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, name: str, unit: str, values: Sequence[float], over: Mapping[str, Figure] | None = None, *bars: Bar
    ) -> Figure:
        """Append a figure that is compared with those of ``over``, and return it."""
        ratios = {other: median(values) / figure.median for other, figure in (over or {}).items()}
        figure = Figure(name, unit, values, ratios, bars)
        self.figures.append(figure)
        return figure

    def lines(self) -> Iterator[str]:
        """Yield its part of the table."""
        yield LINE.format(self.title, "median", "min", "", "", "").rstrip() if self.figures else self.title
        yield from (figure.line() for figure in self.figures)
        yield from (f"  ({note})" for note in self.notes)

    def document(self) -> dict[str, Any]:
        """Return its figures by name, as JSON has them."""
        return {key(figure.name): figure.document() for figure in self.figures}


def verdicts(sections: Iterable[Section]) -> Iterator[dict[str, Any]]:
    """Yield every bar with its figure."""
    for section in sections:
        for figure in section.figures:
            for bar, value in figure.judged():
                yield {
                    "bar": bar.name,
                    "of": f"{section.title}: {figure.name}",
                    "figure": value,
                    "limit": bar.limit,
                    "hoped": bar.hoped,
                    "met": bar.met(value, bar.limit),
                }


def key(name: str) -> str:
    """Return a name as a key of JSON."""
    return "_".join(re.findall(r"[a-z0-9]+", name.lower()))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
