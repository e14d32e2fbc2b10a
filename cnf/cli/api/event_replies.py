"""The answers of cnfd about events as types."""

from __future__ import annotations

from typing import Final, TypedDict

from cnf.cli.api.replies import Flow, Timestamp


class Event(TypedDict):
    """The fields of every event: its number, its time and its kind."""

    seq: int
    time: Timestamp
    event: str


class FirstDrop(Event):
    """The first packet dropped of a source, of all that share a bucket, or of a prefix that is ``denied``.

    It came from ``address``.
    """

    source: str
    address: str
    rule: str | None
    denied: bool
    set: str | None
    interface: str


class RuleGeneration(Event):
    """A packet has seen a rule set for the first time."""

    generation: int


class FlowFinished(Event, Flow):
    """A flow has left its table before a drain has seen it go: ``ended`` says how."""


KINDS: Final[dict[str, type]] = {
    "first_drop": FirstDrop,
    "rule_generation": RuleGeneration,
    "flow_evicted": FlowFinished,
    "flow_expired": FlowFinished,
}
