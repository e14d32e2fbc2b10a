"""The lists of limits, allow and deny, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cnf.cli.api.limit_replies import DeniedPrefix, Listed
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.units import NONE, countdown, pair
from cnf.cli.show.table import Column, Style, render
from cnf.units import bit_rate, count, duration


def allowed_lines(entries: Sequence[Listed], width: int | None, style: Style, now: datetime) -> list[str]:
    """Return a row for each prefix that is allowed."""
    return render(_columns(entries, now), entries, width, style) if entries else ["nobody is allowed"]


def denied_lines(entries: Sequence[DeniedPrefix], width: int | None, style: Style, now: datetime) -> list[str]:
    """Return a row for each prefix that is denied, with what it has dropped; those that drop most now come first."""
    rows = sorted(entries, key=lambda entry: (entry["bits_per_second"], entry["packets"]), reverse=True)
    return render(_columns(rows, now, *_denied_columns(now)), rows, width, style) if rows else ["nobody is denied"]


def _columns(entries: Sequence[Listed], now: datetime, *counts: Column[Any]) -> list[Column[Any]]:
    """Return the columns of both lists, and those of ``counts``; what no entry has is left out."""

    def left(entry: Listed) -> str:
        end = entry["until"]
        return NONE if end is None else countdown((datetime.fromisoformat(end) - now).total_seconds())

    columns: list[Column[Any]] = [
        Column("PREFIX", lambda entry: entry["prefix"], cuttable=True, least=18),
        Column("ORIGIN", lambda entry: entry["origin"], priority=5),
        Column("LEFT", left, right=True, priority=1),
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
    def ago(moment: Timestamp | None) -> str:
        return NONE if moment is None else f"{duration((now - datetime.fromisoformat(moment)).total_seconds())} ago"

    return [
        Column("DROPPED", lambda entry: pair(entry["packets"], entry["bytes"]), right=True, priority=1),
        Column("RATE", lambda entry: bit_rate(entry["bits_per_second"]), right=True, priority=2),
        Column("PKT/S", lambda entry: count(entry["packets_per_second"]), right=True, priority=8),
        Column("FIRST", lambda entry: ago(entry["first_seen"]), right=True, priority=7),
        Column("LAST", lambda entry: ago(entry["last_seen"]), right=True, priority=3),
    ]
