"""Figures beside what they must reach: aligned tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal

LINE: Final = "{:<52}{:>8}{:>8} {:<5}{:>13}  {:<11} {}"


@dataclass(frozen=True, slots=True)
class Bar:
    """The most that a row may show: as ``ratio`` to the section's reference, or as its own ``median``."""

    limit: float
    of: Literal["ratio", "median"] = "median"


@dataclass(frozen=True, slots=True)
class Row:
    """What one thing took, round by round; less is better."""

    name: str
    values: Sequence[float]
    unit: str
    bar: Bar | None = None

    @property
    def best(self) -> float:
        """Return the value of the round that was disturbed least."""
        return min(self.values)

    @property
    def median(self) -> float:
        """Return the median round."""
        return median(self.values)


@dataclass(slots=True)
class Section:
    """Rows that were measured together. If ``reference`` names the first one, those of its unit are compared with it.

    Ratios are of the best rounds: on a shared machine these differ least from run to run.
    """

    title: str
    reference: str = ""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, values: Sequence[float], unit: str, bar: Bar | None = None) -> None:
        """Append a row."""
        self.rows.append(Row(name, values, unit, bar))

    def ratio(self, row: Row) -> float | None:
        """Return how many times the reference ``row`` took."""
        if not self.reference or row.unit != self.rows[0].unit:
            return None
        return row.best / self.rows[0].best

    def met(self, row: Row) -> bool | None:
        """Tell whether ``row`` is within its bar; None if it has none."""
        if row.bar is None:
            return None
        figure = self.ratio(row) if row.bar.of == "ratio" else row.median
        return figure is not None and figure <= row.bar.limit

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        compared = f"x {self.reference}" if self.reference else ""
        yield LINE.format(self.title, "best", "median", "", compared, "must be", "").rstrip()
        for row in self.rows:
            ratio, met = self.ratio(row), self.met(row)
            yield LINE.format(
                f"  {row.name}",
                _number(row.best),
                _number(row.median),
                row.unit,
                "" if ratio is None else f"{ratio:.2f}",
                "" if row.bar is None else f"<= {row.bar.limit:g} {'x' if row.bar.of == 'ratio' else row.unit}",
                "" if met is None else "met" if met else "missed",
            ).rstrip()
        yield from (f"  ({note})" for note in self.notes)

    def document(self) -> dict[str, Any]:
        """Return the section as JSON has it."""
        return {
            "title": self.title,
            "reference": self.reference or None,
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "best": row.best,
                    "median": row.median,
                    "rounds": len(row.values),
                    "ratio": self.ratio(row),
                    "bar": None if row.bar is None else {"limit": row.bar.limit, "of": row.bar.of},
                    "met": self.met(row),
                }
                for row in self.rows
            ],
            "notes": self.notes,
        }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
