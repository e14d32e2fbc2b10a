"""Limits as tables: the rules with the lists beside them, and the sources that are held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from cnf.cli.api.limit_replies import Denied, Limits, Listed, Rule, Source, Sources
from cnf.cli.api.replies import Amount, History
from cnf.cli.limits.glance import source_tables, state_warnings
from cnf.cli.limits.units import NONE, burst, lost, pair, rate, time_left
from cnf.cli.show import past
from cnf.cli.show.table import SPARE, Column, Style, render
from cnf.cli.show.warnings import fold
from cnf.units import bit_rate, count, duration, number_of, packets, printable, size

LISTED: Final = 50
"""Prefixes of a list that the page shows; JSON has them all."""

_UNCUT_PREFIXES: Final = 2
_SORTED_BY: Final = {"over": "what was over the limit"}


def page(limits: Limits, width: int | None, style: Style, now: datetime) -> Iterator[str]:
    """Yield the lines of the list, tables no wider than ``width``; None is as wide as they take."""
    sections = (
        _head(limits, width, style),
        _rules(limits["rules"], width, style, now),
        _lists(limits, width),
        source_tables(limits["sources"], width, style),
    )
    for index, lines in enumerate(filter(None, map(list, sections))):
        yield from ["", *lines] if index else lines


def _head(limits: Limits, width: int | None, style: Style) -> Iterator[str]:
    mode = style.bold(printable(f"mode {limits['mode']}"))
    unreadable = ", what cannot be read is dropped" if limits["unreadable"] == "drop" else ""
    yield f"{mode} ({printable(limits['mode_origin'])}), generation {limits['generation']}{unreadable}"
    yield from state_warnings(limits, width, style)


def _rules(rules: Sequence[Rule], width: int | None, style: Style, now: datetime) -> Iterator[str]:
    if rules:
        yield from render(_rule_columns(rules, now), rules, width, style)
    else:
        yield "no rule (add one: cnfctl limits set NAME --prefix PREFIX --packets-per-second N)"


def _rule_columns(rules: Sequence[Rule], now: datetime) -> list[Column[Rule]]:
    """Return the columns in the order shown; what a rule did comes first, and what no rule has is left out."""

    def counted(title: str, cell: Callable[[Rule], Amount], priority: int) -> Column[Rule]:
        return Column(title, lambda rule: count(cell(rule)["packets"]), right=True, priority=priority)

    wanted = {
        "LEFT": any(rule["until"] for rule in rules),
        "REASON": any(rule["reason"] for rule in rules),
        "PROTOCOLS": any(rule["protocols"] for rule in rules),
        "INTERFACES": any(rule["interfaces"] for rule in rules),
        "LIMITED": any(rule["mode"] == "enforce" or rule["limited"]["packets"] for rule in rules),
        "WOULD LIMIT": any(rule["mode"] == "shadow" or rule["would_limit"]["packets"] for rule in rules),
    }
    changed = any(rule["origin"] != "file" for rule in rules)
    columns: tuple[Column[Rule], ...] = (
        Column("NAME", lambda rule: rule["name"], cuttable=True, least=10),
        Column("ORIGIN", lambda rule: rule["origin"], priority=4 if changed else SPARE),
        Column("MODE", lambda rule: rule["mode"], priority=3),
        Column("PREFIXES", _prefixes, priority=5, cuttable=True, least=9),
        Column("RATE", rate, priority=2, cuttable=True, least=14),
        Column("LEFT", lambda rule: time_left(rule["until"], now), right=True, priority=1),
        Column("BURST", burst, priority=SPARE + 3),
        Column("BUCKET", lambda rule: rule["bucket"], priority=SPARE + 4),
        Column("PROTOCOLS", lambda rule: ", ".join(rule["protocols"]) or NONE, priority=SPARE + 1),
        Column("INTERFACES", lambda rule: ", ".join(rule["interfaces"]) or NONE, priority=SPARE + 2),
        counted("PASSED", lambda rule: rule["passed"], 6),
        counted("LIMITED", lambda rule: rule["limited"], 1),
        counted("WOULD LIMIT", lambda rule: rule["would_limit"], 1),
        Column("REASON", lambda rule: rule["reason"] or NONE, priority=SPARE, cuttable=True, least=8),
    )
    return [column for column in columns if wanted.get(column.title, True)]


def _prefixes(rule: Rule) -> str:
    first, *others = rule["prefixes"] or [NONE]
    return ", ".join([first, *others]) if len(others) < _UNCUT_PREFIXES else f"{first} +{len(others)}"


def _lists(limits: Limits, width: int | None) -> Iterator[str]:
    for name, listed in (("allow", limits["allow"]), ("deny", limits["deny"])):
        for origin in dict.fromkeys(each["origin"] for each in listed):
            yield from fold(printable(f"{name} ({origin}): {_some(listed, origin)}"), width)
    if denied := _denied_so_far(limits["denied"]):
        yield from fold(denied, width)
    if limits["removed"]:
        names = ", ".join(limits["removed"])
        back = "all that was changed at run time goes back to the file with: cnfctl limits reset"
        yield from fold(printable(f"removed from the file's rules: {names} ({back})"), width)


def _denied_so_far(denied: Denied) -> str:
    """Return what became of denied sources; "" where none is denied."""
    if not denied["prefixes"]:
        return ""
    return f"denied so far: {lost(denied, 'dropped')} (by prefix: cnfctl limits deny)"


def _some(listed: Sequence[Listed], origin: str) -> str:
    prefixes = [each["prefix"] for each in listed if each["origin"] == origin]
    more = f" and {len(prefixes) - LISTED:,} more (-o json has all)" if len(prefixes) > LISTED else ""
    return ", ".join(prefixes[:LISTED]) + more


def source_lines(reply: Sources, *, width: int | None, style: Style, now: datetime, sort: str) -> list[str]:
    """Return the sources of ``reply`` as a table with its summary, or the one line that says why there is none."""
    if reply["history"]:
        return _past_source_lines(reply, reply["history"], width, style, sort)
    if not reply["sources"]:
        return fold(_why_empty(reply), width)
    shown, total = len(reply["sources"]), reply["total"]
    what = number_of(total, "source")
    of = f"{shown:,} of {what} by {_SORTED_BY.get(sort, sort)}" if shown < total else what
    summary = f"{of}; drained {duration(reply['drain_age_seconds'])} ago"
    return [
        *render(_source_columns(reply["sources"], now), reply["sources"], width, style),
        *map(style.dim, fold(summary, width)),
    ]


def _past_source_lines(reply: Sources, history: History, width: int | None, style: Style, sort: str) -> list[str]:
    shown, total = len(reply["sources"]), reply["total"]
    what = number_of(total, "source")
    of = f"{shown:,} of {what} by {_SORTED_BY.get(sort, sort)}" if shown < total else what
    table = []
    if shown:
        table = render(
            _source_columns(reply["sources"], datetime.fromisoformat(history["end"])), reply["sources"], width, style
        )
    notes = [f"{of}, the most of each block" if shown else "no source was over a limit"]
    notes += past.notes(history, rest=False)
    if (dropped := history["dropped"]["ingress"])["packets"]:
        notes.append(f"dropped in all, with what is denied: {size(dropped['bytes'])} in {packets(dropped['packets'])}")
    return [
        *map(style.bold, fold(past.heading(history), width)),
        *table,
        *(style.dim(line) for note in notes for line in fold(note, width)),
    ]


def _why_empty(reply: Sources) -> str:
    if reply["buckets"]:
        return f"nobody was held back, of {number_of(reply['buckets'], 'source')} with a bucket (--all shows them)"
    interval = duration(reply["drain_interval_seconds"])
    return f"no source has a bucket yet; what comes in shows after the next drain, every {interval}"


def _source_columns(sources: Sequence[Source], now: datetime) -> list[Column[Source]]:
    """Return the columns in the order shown; where room is short, IPv6 sources are cut before anything else."""

    def last_over(source: Source) -> str:
        latest = source["last_over"]
        return NONE if latest is None else f"{duration((now - datetime.fromisoformat(latest)).total_seconds())} ago"

    def numbers(title: str, cell: Callable[[Source], str], priority: int) -> Column[Source]:
        return Column(title, cell, right=True, priority=priority)

    least = max((len(_source(source)) for source in sources if ":" not in source["source"]), default=0)
    wanted = {
        "DROPPED": any(source["mode"] != "shadow" or source["dropped_packets"] for source in sources),
        "PASSED": any(source["verdict"] != "denied" or source["packets"] for source in sources),
        "WOULD DROP": any(source["mode"] == "shadow" or source["would_drop_packets"] for source in sources),
    }
    columns: tuple[Column[Source], ...] = (
        Column("SOURCE", _source, cuttable=True, least=max(least, 16)),
        Column("RULE", _rule_or_set, priority=3, cuttable=True, least=6),
        Column("VERDICT", lambda source: source["verdict"].replace("_", " "), priority=2),
        numbers("PASSED", lambda source: pair(source["packets"], source["bytes"]), 6),
        numbers("DROPPED", lambda source: pair(source["dropped_packets"], source["dropped_bytes"]), 1),
        numbers("WOULD DROP", lambda source: pair(source["would_drop_packets"], source["would_drop_bytes"]), 1),
        numbers("RATE", lambda source: bit_rate(source["bits_per_second"]), 4),
        numbers("PKT/S", lambda source: count(source["packets_per_second"]), SPARE + 1),
        numbers("TOKENS", lambda source: pair(source["tokens_packets"], source["tokens_bytes"]), SPARE),
        numbers("LAST OVER", last_over, 5),
    )
    return [column for column in columns if wanted.get(column.title, True)]


def _rule_or_set(source: Source) -> str:
    return source["rule"] or (f"set {source['set']}" if source["set"] else NONE)


def _source(source: Source) -> str:
    return f"{source['source']} shared" if source["shared"] else source["source"]
