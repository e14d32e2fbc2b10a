"""The lists of limits, allow and deny, and the sets, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cnf.cli.api.limit_replies import DeniedPrefix, Listed, PrefixSet
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.units import NONE, pair, time_left
from cnf.cli.show.table import SPARE, Column, Style, render
from cnf.units import bit_rate, count, duration, moment, printable


def allowed_lines(entries: Sequence[Listed], width: int | None, style: Style, now: datetime) -> list[str]:
    """Return a row for each prefix that is allowed."""
    return render(_columns(entries, now), entries, width, style) if entries else ["nobody is allowed"]


def denied_lines(entries: Sequence[DeniedPrefix], width: int | None, style: Style, now: datetime) -> list[str]:
    """Return a row for each prefix that is denied, with what it has dropped; those that drop most now come first."""
    rows = sorted(entries, key=lambda entry: (entry["bits_per_second"], entry["packets"]), reverse=True)
    return render(_columns(rows, now, *_denied_columns(now)), rows, width, style) if rows else ["nobody is denied"]


def set_lines(sets: Sequence[PrefixSet], width: int | None, style: Style, now: datetime) -> list[str]:
    """Return a row for each set of prefixes, then what is wrong with a file."""
    if not sets:
        return ["there are no sets (add one: [[limits.sets]] in the configuration)"]

    def age(each: PrefixSet) -> str:
        if each["loaded"] is None:
            return NONE
        return f"{duration((now - datetime.fromisoformat(each['loaded'])).total_seconds())} ago"

    in_shadow = any(each["mode"] == "shadow" or each["in_shadow"]["packets"] for each in sets)
    columns: list[Column[PrefixSet]] = [
        Column("NAME", lambda each: each["name"], cuttable=True, least=10),
        Column("ACTION", lambda each: each["action"], priority=3),
        Column("MODE", lambda each: each["mode"], priority=2),
        Column("PREFIXES", lambda each: count(each["prefixes"]), right=True, priority=4),
        Column("LOADED", age, right=True, priority=5),
        Column("COUNTED", lambda each: pair(each["packets"], each["bytes"]), right=True, priority=1),
        Column("IN SHADOW", _in_shadow, right=True, priority=1),
        Column("REFUSED LINES", lambda each: count(each["refused_lines"]), right=True, priority=SPARE + 1),
        Column("FILE", lambda each: each["file"], priority=SPARE, cuttable=True, least=16),
    ]
    shown = [column for column in columns if in_shadow or column.title != "IN SHADOW"]
    errors = [
        printable(f"{each['name']}: {each['file']}: {each['error']} (since {moment(datetime.fromisoformat(since))})")
        for each in sets
        if each["error"] and (since := each["error_since"])
    ]
    return [*render(shown, sets, width, style), *errors]


def _in_shadow(each: PrefixSet) -> str:
    return pair(each["in_shadow"]["packets"], each["in_shadow"]["bytes"])


def _columns(entries: Sequence[Listed], now: datetime, *counts: Column[Any]) -> list[Column[Any]]:
    """Return the columns of both lists, and those of ``counts``; what no entry has is left out."""
    columns: list[Column[Any]] = [
        Column("PREFIX", lambda entry: entry["prefix"], cuttable=True, least=18),
        Column("ORIGIN", lambda entry: entry["origin"], priority=5),
        Column("LEFT", lambda entry: time_left(entry["until"], now), right=True, priority=1),
        *counts,
        Column("WHO", lambda entry: entry["who"] or NONE, priority=6),
        Column("REASON", lambda entry: entry["reason"] or NONE, priority=4, cuttable=True, least=8),
    ]
    wanted = {
        "LEFT": any(entry["until"] for entry in entries),
        "WHO": any(entry["who"] for entry in entries),
        "REASON": any(entry["reason"] for entry in entries),
    }
    return [column for column in columns if wanted.get(column.title, True)]


def _denied_columns(now: datetime) -> list[Column[Any]]:
    def ago(seen: Timestamp | None) -> str:
        return NONE if seen is None else f"{duration((now - datetime.fromisoformat(seen)).total_seconds())} ago"

    return [
        Column("DROPPED", lambda entry: pair(entry["packets"], entry["bytes"]), right=True, priority=1),
        Column("RATE", lambda entry: bit_rate(entry["bits_per_second"]), right=True, priority=2),
        Column("PKT/S", lambda entry: count(entry["packets_per_second"]), right=True, priority=8),
        Column("FIRST", lambda entry: ago(entry["first_seen"]), right=True, priority=7),
        Column("LAST", lambda entry: ago(entry["last_seen"]), right=True, priority=3),
    ]
