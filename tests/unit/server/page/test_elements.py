"""Elements: what they contain is text, whatever it says."""

from __future__ import annotations

from xml.etree.ElementTree import tostring

from cnf.server.page.elements import document, element, section, table


def test_content_is_escaped() -> None:
    """Markup in text and in attributes is text; characters that control a terminal are shown."""
    made = element("p", "<script>&\x1b", element("b", "x"), "</p>", title='"><img>', class_="a")
    assert tostring(made, encoding="unicode", method="html") == (
        '<p title="&quot;&gt;<img&gt;" class="a">&lt;script&gt;&amp;\\x1b<b>x</b>&lt;/p&gt;</p>'
    )


def test_a_name_with_other_bytes_can_be_written() -> None:
    """A lone surrogate, which stands for a byte that is no UTF-8, is shown with a backslash."""
    assert element("td", "a\udcff").text == "a\\udcff"


def test_a_table() -> None:
    """The last columns are numbers, in the head as in the rows; what a cell is about can be heard."""
    made = table("Interfaces", ("name", "packets"), [("n0", "5")], 1)
    assert [(cell.tag, cell.text, cell.get("class"), cell.get("scope")) for cell in made.iter() if cell.text] == [
        ("th", "name", "text", "col"),
        ("th", "packets", "number", "col"),
        ("th", "n0", "text", "row"),
        ("td", "5", "number", None),
    ]
    assert (made.get("role"), made.get("aria-label"), made.get("tabindex")) == ("region", "Interfaces", "0")


def test_a_document() -> None:
    """A page begins with its type, and an element without content is not closed."""
    page = document([element("meta", charset="utf-8")], [section("Now", element("p", "5"))])
    assert page == (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"></head>'
        "<body><section><h2>Now</h2><p>5</p></section></body></html>\n"
    )
