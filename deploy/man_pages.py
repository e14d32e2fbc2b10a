#!/usr/bin/python3
"""Make the manual pages, from the commands' own arguments and from the options of the configuration.

man_pages.py FOLDER     as FOLDER/man1/cnfctl.1, FOLDER/man5/cnf.toml.5 and FOLDER/man8/cnfd.8
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import attrs

from cnf import VERSION, cli, cnfd
from cnf.config import Settings
from cnf.daemon.reload import FIXED_AT_START

ASK: Final = "ask a running cnfd who is talking, and change its limits"
RUN: Final = "track a node's flows, and limit its packets, with XDP"
CONFIGURE: Final = "configuration of cnfd"
AT_A_RESTART: Final = {f"{table}.{option}" for table, names in FIXED_AT_START for option in names} | {"max_interfaces"}
CONVENTIONS: Final = """\
The file is TOML, /etc/cnf/cnf.toml unless cnfd is given another one. An option that is left out has the default shown.
A duration is a text such as "500ms", "5s", "2m" or "1h". An unknown key, a wrong type or an impossible value is
refused, all of them at once, each with what was expected.

cnfd --check-config names every problem in a file. systemctl reload cnfd puts a changed file in force as a whole.
What changes at a restart only is marked so.
"""
EXIT_STATUS: Final = "0, or one of sysexits(3) with a line on standard error: what failed, why, and the remedy."
SIGNALS: Final = {
    "SIGTERM, SIGINT": "end, and do as on_exit says",
    "SIGHUP": "read the configuration again",
    "SIGUSR2": "end, and leave the program at work for the next daemon",
}
FILES: Final = {
    "/etc/cnf/cnf.toml": "the configuration",
    "/run/cnf/cnf.sock": "the control socket",
    "/var/lib/cnf": "limits that were changed at run time, and the history",
    "/var/cache/cnf": "the program, compiled",
    "/opt/cnf/current/docs": "the documents",
}
EXAMPLE: Final = """\
[[interfaces]]
name = "eth0"

[limits]
mode = "shadow"

[[limits.rules]]
name = "default"
prefixes = ["0.0.0.0/0", "::/0"]
packets_per_second = 10000
"""


def main(folder: Path) -> None:
    """Write the pages."""
    pages = (
        ("cnfctl", 1, command(cli.parser(), ASK)),
        ("cnfd", 8, [*command(cnfd.parser(), RUN), ".SH SIGNALS", *explained(SIGNALS)]),
        ("cnf.toml", 5, configuration()),
    )
    for name, section, lines in pages:
        others = [f"{other}({number})" for other, number, _ in pages if other != name]
        title = f'.TH {name.upper()} {section} "" "cnf {VERSION}" "cnf"'
        text = "\n".join([title, *lines, ".SH SEE ALSO", ", ".join(others)]) + "\n"
        path = folder / f"man{section}" / f"{name}.{section}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def command(parser: argparse.ArgumentParser, does: str) -> Iterator[str]:
    """Yield the lines of a command's page; ``does`` is its line in a list of pages."""
    yield from (".SH NAME", rf"{parser.prog} \- {does}")
    yield from (".SH SYNOPSIS", *usage(parser))
    yield from (".SH DESCRIPTION", *paragraphs(parser.description or ""))
    yield from (".SH OPTIONS", *arguments(parser))
    below = list(commands(parser))
    if below:
        yield ".SH COMMANDS"
    for each, summary in below:
        yield from (f".SS {escaped(each.prog)}", *usage(each), ".PP", escaped(capitalised(summary)), *arguments(each))
        if each.epilog:
            yield from literal(each.epilog)
    if parser.epilog:
        yield from (".SH EXAMPLES", *literal(parser.epilog.removeprefix("examples:\n")))
    yield from (".SH EXIT STATUS", *paragraphs(EXIT_STATUS))
    yield from (".SH FILES", *explained(FILES))


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield each command below a parser that can be given, with its summary."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - nor a public name for it
            for choice in action._choices_actions:  # noqa: SLF001 - the only place of the summary
                below = action.choices[choice.dest]
                inner = list(commands(below))
                if not inner or "run" in below._defaults:  # noqa: SLF001 - it runs without a further word
                    yield below, choice.help or ""
                yield from inner


def usage(parser: argparse.ArgumentParser) -> list[str]:
    """Return a command's synopsis, which man does not break between an option and its value."""
    words = " ".join(word for word in parser.format_usage().split() if word != "[-h]")
    unbroken = re.sub(r"(\[\S+) ", r"\1\\ ", escaped(words.removeprefix(f"usage: {parser.prog}").lstrip()))
    return [".nh", ".ad l", rf"\fB{escaped(parser.prog)}\fR {unbroken}", ".ad", ".hy"]


def arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options of a parser and what each means; operands stand in the synopsis."""
    for action in parser._actions:  # noqa: SLF001 - as above
        if action.option_strings and not isinstance(action, argparse._HelpAction):  # noqa: SLF001
            value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else "")
            if action.nargs == "?":
                value = f"[{value}]"
            names = ", ".join(rf"\fB{escaped(name)}\fR" for name in action.option_strings)
            meaning = (action.help or "").replace("%(default)s", str(action.default))
            yield from (".TP", f"{names} {escaped(str(value))}".rstrip(), escaped(meaning) or r"\&")


def configuration() -> Iterator[str]:
    """Yield the lines of the configuration's page."""
    yield from (".SH NAME", rf"cnf.toml \- {CONFIGURE}")
    yield from (".SH SYNOPSIS", "/etc/cnf/cnf.toml")
    yield from (".SH DESCRIPTION", *paragraphs(CONVENTIONS))
    yield ".SH OPTIONS"
    yield from options(Settings, "")
    yield from (".SH EXAMPLE", *literal(EXAMPLE))


def options(table: type[Any], path: str) -> Iterator[str]:
    """Yield the options of a table, which stands at ``path``, and then the tables in it."""
    hints = get_type_hints(table, include_extras=True)
    tables = []
    for option in attrs.fields(table):
        kind, _, meaning = get_args(hints[option.name])
        full = f"{path}.{option.name}".lstrip(".")
        inner = next((each for each in (kind, *get_args(kind)) if attrs.has(each)), None)
        if inner:
            many = not isinstance(kind, type | types.UnionType)
            tables.append((f"[[{full}]]" if many else f"[{full}]", meaning, inner, full))
            continue
        restart = " (changes at a restart only)" if full in AT_A_RESTART else ""
        yield from (".TP", rf"\fB{option.name}\fR{default(option.default)}", escaped(f"{meaning}{restart}"))
    for title, meaning, inner, full in tables:
        yield from (f".SS {escaped(title)}", escaped(capitalised(meaning)))
        yield from options(inner, full)


def default(setting: object) -> str:
    """Return how TOML has an option's default."""
    if setting is attrs.NOTHING:
        return " (required)"
    if setting is None:
        return ""
    written = json.dumps(span(setting) if isinstance(setting, float) else setting)
    return escaped(f" = {written}")


def span(seconds: float) -> str:
    """Return a duration as the configuration has it, in hours if it is whole ones: 24h, 60s."""
    return f"{seconds / 3600:g}h" if seconds % 3600 == 0 else f"{seconds:g}s"


def explained(words: dict[str, str]) -> Iterator[str]:
    """Yield words, each with what it means."""
    for word, meaning in words.items():
        yield from (".TP", rf"\fB{escaped(word)}\fR", escaped(meaning))


def paragraphs(text: str) -> list[str]:
    """Return running text; an empty line begins a paragraph."""
    return [escaped(line) or ".PP" for line in text.splitlines()]


def literal(text: str) -> list[str]:
    """Return text whose lines stay as they are."""
    return [".PP", ".nf", *(escaped(line) for line in text.rstrip("\n").splitlines()), ".fi"]


def capitalised(text: str) -> str:
    """Return a summary as a sentence."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def escaped(text: str) -> str:
    """Return text that roff takes as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
