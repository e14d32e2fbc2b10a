"""What cnfctl expects is what cnfd answers."""

from __future__ import annotations

from typing import get_type_hints

from cnf.cli.api.replies import Flow, Pair
from cnf.cli.arguments import SORT_FIELDS
from cnf.flows.fields import FIELDS, PAIR_FIELDS
from cnf.flows.groups import SHORT, SORTS
from cnf.flows.query import PAIR_SORT_COLUMNS


def test_a_flow_has_the_fields_that_the_daemon_writes() -> None:
    """Both sides name them alike, in the same order."""
    assert list(Flow.__annotations__) == list(FIELDS)
    assert list(get_type_hints(Pair)) == list(PAIR_FIELDS)


def test_flows_are_sorted_by_what_the_daemon_sorts_by() -> None:
    """A name that the command line takes, the daemon knows, and the other way round."""
    assert {*SORT_FIELDS} == {*PAIR_SORT_COLUMNS, *SORTS, *SHORT}
