"""Charts: lines that are as high as their values, and interrupted where nothing is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cnf.server.page.chart import BOTTOM, HEIGHT, TOP, WIDTH, chart
from cnf.units import count


def paths(*lines: list[float]) -> list[str]:
    """Return the paths of a chart of these lines."""
    made = chart("t", {str(i): np.array(line) for i, line in enumerate(lines)}, [(0.5, "12:00")], count)
    return [path.get("d", "") for path in made.iter("path")]


def test_a_line() -> None:
    """The largest value of all lines is at the top, 0 at the base; each value is as wide as its slice."""
    base, half = HEIGHT - BOTTOM, WIDTH // 2
    assert paths([0, 8], [8, 4]) == [
        f"M0.0 {base}.0H{half}.0 L{half}.0 {TOP}.0H{WIDTH}.0",
        f"M0.0 {TOP}.0H{half}.0 L{half}.0 {(base + TOP) / 2:.1f}H{WIDTH}.0",
    ]


def test_the_key_without_a_style() -> None:
    """What the lines are is told apart where nobody reads the style sheet, as in a text browser."""
    caption = chart("bit/s", {"received": np.zeros(2), "sent": np.zeros(2)}, [], count).find("figcaption")
    assert caption is not None
    assert "".join(caption.itertext()) == "bit/s received sent"


def test_a_gap() -> None:
    """Where nothing is known a line ends, and another one begins behind."""
    (path,) = paths([1, np.nan, 1])
    assert [step[0] for step in path.split()] == ["M", "1", "M", "1"]


def test_nothing_known() -> None:
    """A chart of which nothing is known, or of zeros, has no value out of it."""
    assert paths([np.nan, np.nan]) == [""]
    assert "nan" not in paths([0, 0])[0]


@given(arrays(np.float64, 5, elements=st.floats(0, 1e15) | st.just(np.nan)))
def test_any_line_stays_inside(line: np.ndarray) -> None:
    """No value is drawn above the chart or below it."""
    (path,) = paths(line.tolist())
    heights = [float(step.partition("H")[0]) for step in path.split() if "H" in step]
    assert all(TOP <= height <= HEIGHT - BOTTOM for height in heights)
    assert len(heights) == np.count_nonzero(~np.isnan(line))
