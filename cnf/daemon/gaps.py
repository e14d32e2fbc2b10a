"""Flows that can finish without a record, by the settings; they are counted as lost."""

from __future__ import annotations

from collections.abc import Mapping

from structlog.typing import FilteringBoundLogger

from cnf.config import Settings
from cnf.datapath.blueprint import Blueprint


def gaps(settings: Settings, blueprint: Blueprint) -> Mapping[str, str]:
    """Return what can be in no record, with a remedy for each."""
    if not settings.records or blueprint.finished_events:
        return {}
    flows, found = settings.flows, {}
    shortest = min(flows.idle_timeout, flows.ended_timeout)
    cache = blueprint.table == "cache"
    if cache and shortest < flows.drain_interval:
        found["flows can come and go between two drains without a record"] = (
            f"set flows.drain_interval to no more than {shortest:g} s"
        )
    if settings.export.is_on:
        found["flows that a full table evicts are in no record"] = (
            "restart cnfd: its program was built without export" if cache else 'set flows.table to "cache"'
        )
    return found


def warn_of(found: Mapping[str, str], log: FilteringBoundLogger) -> None:
    """Log what can be in no record."""
    for event, remedy in found.items():
        log.warning(event, remedy=remedy)
