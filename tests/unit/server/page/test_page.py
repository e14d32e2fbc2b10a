"""The page of a node that has much to show."""

from __future__ import annotations

from socket import gethostname
from typing import Any
from xml.etree.ElementTree import tostring

from cnf.server.page import page


def interface(number: int, **facts: str) -> dict[str, Any]:
    """Return an interface as the status has it; the later ones have received more."""
    counters = {f"{way}_{unit}": number for way in ("received", "sent") for unit in ("packets", "bytes")}
    return {"name": f"n{number}", "state": "attached", "mode": None, "error": "", "warning": "", **counters, **facts}


def test_a_thousand_interfaces() -> None:
    """The table has those with most bytes, and says that there are others."""
    html = tostring(page._interfaces([interface(number) for number in range(1000)]), "unicode")  # noqa: SLF001 - a part
    assert "50 of 1,000, by bytes (cnfctl status has all)." in html
    assert [f">n{number}<" in html for number in (999, 950, 949, 0)] == [True, True, False, False]
    few = tostring(page._interfaces([interface(number) for number in range(50)]), "unicode")  # noqa: SLF001 - a part
    assert few.index(">n0<") < few.index(">n49<")
    assert "by bytes" not in few


def test_many_warnings() -> None:
    """The first ones are shown, and how many more there are; what they say is text."""
    described = {
        "daemon": {"uptime_seconds": 1.0},
        "drain": {"last_error": None, "age_seconds": 0.1, "interval_seconds": 5.0},
        "interfaces": [interface(number, error="<b>refused</b>") for number in range(100)],
    }
    shown = [tostring(each, "unicode", "html") for each in page._heading(described, None)]  # noqa: SLF001 - a part
    assert len(shown) == 1 + 11 + 1
    assert f"<h1>{gethostname()} <small>" in shown[0]
    assert "n0: &lt;b&gt;refused&lt;/b&gt;" in shown[1]
    assert "... and 90 more warnings (cnfctl status)" in shown[11]
