#!/usr/bin/python3
"""Make the shells' completions of cnfd and cnfctl, for the folder share of an installation.

completions.py FOLDER     as FOLDER/bash-completion/completions/cnfctl and the like
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import shtab

from cnf import cli, cnfd
from cnf.cli.arguments import SORT_FIELDS, sort_field

FILES: Final = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
"""Where each shell looks, below /usr/share or /usr/local/share."""
INTERFACES: Final = {"bash": "_cnf_interfaces", "zsh": "_cnf_interfaces", "fish": "(ls /sys/class/net)"}
PREAMBLE: Final = {
    "bash": '_cnf_interfaces() { compgen -W "$(ls /sys/class/net)" -- "$1"; }',
    "zsh": "_cnf_interfaces() { compadd -- /sys/class/net/*(:t); }",
}


def main(folder: Path) -> None:
    """Write the completions of both commands for each shell."""
    for parser in (cli.parser(), cnfd.parser()):
        for action in actions(parser):
            say_what_fits(action)
        for shell, name in FILES.items():
            path = folder / name.format(parser.prog)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(shtab.complete(parser, shell=shell, preamble=PREAMBLE), encoding="utf-8")


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all below it."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor a public name for it
            for below in action.choices.values():
                yield from actions(below)


def say_what_fits(action: argparse.Action) -> None:
    """Tell shtab what may follow, where argparse does not know it."""
    if action.metavar in ("FILE", "PATH"):
        action.complete = shtab.FILE
    elif action.option_strings == ["--interface"]:
        action.complete = INTERFACES
    elif action.type is sort_field:
        action.choices = SORT_FIELDS


if __name__ == "__main__":
    main(Path(sys.argv[1]))
