"""The one file that BCC compiles has every line of the sources once, under its own name and number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnf.datapath.blueprint import SOURCE
from cnf.datapath.source import INCLUDE, flatten


def marked(text: str) -> dict[tuple[str, int], str]:
    """Return the lines by the file and number that the preprocessor would report them under."""
    lines: dict[tuple[str, int], str] = {}
    name, number = "", 0
    for line in text.splitlines():
        mark = re.fullmatch(r'#line (\d+) "(.+)"', line)
        if mark:
            number, name = int(mark[1]), mark[2]
            continue
        if line:
            assert (name, number) not in lines, f"{name}:{number} stands twice"
            lines[name, number] = line
        number += 1
    return lines


def originals(*paths: Path) -> dict[tuple[str, int], str]:
    """Return the lines of files, without the empty ones and the includes that are put in place."""
    return {
        (path.name, number): line
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line and not INCLUDE.match(line)
    }


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Write a source with headers that include each other."""
    (tmp_path / "main.c").write_text(
        '/* main */\n#include "a.h"\n#include "b.h"\n\nint x;\n  #include "c/c.h"\nint y;\n'
    )
    (tmp_path / "a.h").write_text('#include "b.h"\n#include <linux/types.h>\nint a;\n')
    (tmp_path / "b.h").write_text('#include "a.h"\n\nint b;')
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "c.h").write_text('#include "d.h"\nint c;\n')
    (tmp_path / "c" / "d.h").write_text("int d; // not ASCII: \u2192\n", encoding="utf-8")
    return tmp_path / "main.c"


def test_every_line_is_marked_as_its_own(sources: Path) -> None:
    """A compiler's message names the file and line in which a person finds the fault."""
    folder = sources.parent
    files = [sources, folder / "a.h", folder / "b.h", folder / "c" / "c.h", folder / "c" / "d.h"]

    assert marked(flatten(sources)) == originals(*files)


def test_a_file_is_put_in_place_where_it_is_first_asked_for(sources: Path) -> None:
    """The order is that of a preprocessor with include guards, and circles end."""
    declared = re.findall(r"^int (\w)", flatten(sources), re.MULTILINE)

    assert declared == ["b", "a", "x", "d", "c", "y"]


def test_the_program_is_whole() -> None:
    """flow.c and every header beside it are in the text that is compiled, with right marks, and nothing else is."""
    text = flatten(SOURCE)

    assert marked(text) == originals(SOURCE, *SOURCE.parent.glob("*.h"))
    assert not re.search(INCLUDE.pattern, text, re.MULTILINE)


def test_an_include_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A missing file is named, not passed over."""
    (tmp_path / "main.c").write_text('#include "gone.h"\n')

    with pytest.raises(FileNotFoundError, match=r"gone\.h"):
        flatten(tmp_path / "main.c")
