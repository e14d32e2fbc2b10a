"""deploy/man_pages.py: what man shows has all that the commands and the configuration have."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from cnf import cli, cnfd
from cnf.config import Settings
from tests.unit.test_docs_reference import commands, options

ROOT: Final = Path(__file__).parents[2]
WIDTH: Final = 80
INDENT: Final = 7
"""Of text on a page."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the pages."""
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "deploy/man_pages.py", folder], check=True)
    return folder


def shown(page: Path) -> str:
    """Return a page's text, without the marks of roff."""
    text = re.sub(r"\\f[BR]|\\&", "", page.read_text(encoding="utf-8"))
    return text.replace("\\ ", " ").replace("\\-", "-").replace("\\e", "\\")


def test_every_command(pages: Path) -> None:
    """The page cnfctl(1) has each command in a part of its own, also those that have others below them."""
    titles = re.findall(r"^\.SS (.*)", shown(pages / "man1/cnfctl.1"), re.MULTILINE)
    alone = [each for each in titles if any(other.startswith(f"{each} ") for other in titles)]
    assert alone == ["cnfctl limits", "cnfctl limits allow", "cnfctl limits deny"]
    assert sorted({*titles} - {*alone}) == sorted(f"cnfctl {name}" for name in commands(cli.parser()))


def test_terminal_of_80_columns(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of help is longer, and none of a page that man does not fill."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(ROOT / "deploy")
    parsers = [cli.parser(), cnfd.parser()]
    parsers += [below for below, _ in import_module("man_pages").commands(parsers[0])]
    helped = [line for parser in parsers for line in parser.format_help().splitlines()]
    assert [line for line in helped if len(line) > WIDTH] == []
    unfilled = "".join(re.findall(r"^\.nf\n(.*?)^\.fi", shown(pages / "man1/cnfctl.1"), re.MULTILINE | re.DOTALL))
    assert "cnfctl flows" in unfilled
    assert [line for line in unfilled.splitlines() if len(line) > WIDTH - INDENT] == []


@pytest.mark.parametrize("words", [["flows"], ["limits", "set"], ["limits", "allow", "add"]])
def test_every_option_of_a_command(pages: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A command's part has each option that its help has."""
    part = shown(pages / "man1/cnfctl.1").partition(f".SS cnfctl {' '.join(words)}\n")[2].partition("\n.S")[0]
    with pytest.raises(SystemExit):
        cli.main([*words, "--help"])
    helped = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert set(re.findall(r"--[a-z-]+", "".join(part.split(".TP\n")[1:]))) >= helped


def test_every_option_of_the_daemon(pages: Path) -> None:
    """The page cnfd(8) has each option in its synopsis, and what it means."""
    page = shown(pages / "man8/cnfd.8")
    for option in re.findall(r"--[a-z-]+", cnfd.parser().format_usage()):
        assert f"[{option}" in page
        assert f".TP\n{option}" in page


def test_every_option_of_the_configuration(pages: Path) -> None:
    """The page cnf.toml(5) has each option below its table, and says which ones change at a restart only."""
    part, found = "", {}
    assert 'keep = "24h"' in shown(pages / "man5/cnf.toml.5")
    lines = shown(pages / "man5/cnf.toml.5").splitlines()
    for tag, line, meaning in zip(lines, lines[1:], lines[2:], strict=False):
        if tag == ".TP":
            found[part + line.split()[0]] = meaning
        part = f"{line[4:].strip('[]')}." if line.startswith(".SS ") else part
    assert found.keys() == dict(options(Settings)).keys()
    assert found["flows.max_entries"].endswith("(changes at a restart only)")
    assert not found["flows.idle_timeout"].endswith("(changes at a restart only)")
