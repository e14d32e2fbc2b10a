"""One listing: what is asked for, and its lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from cnf.cli.api.client import Client, Query
from cnf.cli.api.replies import Flows, Groups, Pairs
from cnf.cli.flows.choices import PAIRS
from cnf.cli.flows.groups import group_lines
from cnf.cli.flows.names import Names
from cnf.cli.flows.table import View, flow_lines, pair_lines


@dataclass(frozen=True, slots=True)
class Asked:
    """What to list."""

    sort: str
    way: str | None
    """What to group by, PAIRS, or None for flows by themselves."""
    filter: str | None
    past: Query = field(default_factory=dict)
    """The parameters that say which time; none: now."""
    owner: bool = False
    """Whether to find the owner of each flow's local end."""

    def query(self, top: int | None) -> Query:
        """Return the parameters of the request for the largest ``top``; None for all."""
        chosen: dict[str, str | int | None] = {"top": top, "sort": self.sort, "filter": self.filter}
        chosen |= {"pairs": 1} if self.way == PAIRS else {"by": self.way}
        chosen |= {"owner": 1} if self.owner else {}
        return {name: value for name, value in chosen.items() if value is not None} | dict(self.past)


def ask(client: Client, asked: Asked, top: int, names: Names | None = None) -> Flows | Pairs | Groups:
    """Return the reply of the daemon, with ``names`` beside its addresses. Raises CnfError."""
    query = asked.query(top)
    reply: Flows | Pairs | Groups
    if asked.way is None:
        reply = client.flows(query)
    else:
        reply = client.pairs(query) if asked.way == PAIRS else client.groups(query)
    if names:
        rows: dict[str, Any] = cast("dict[str, Any]", reply)
        name = "groups" if "groups" in rows else "flows"
        rows[name] = list(names.beside(rows[name]))
    return reply


def lines_of(reply: Flows | Pairs | Groups, asked: Asked, view: View) -> list[str]:
    """Return the lines of a table."""
    if asked.way is None:
        return flow_lines(cast("Flows", reply), view)
    return pair_lines(cast("Pairs", reply), view) if asked.way == PAIRS else group_lines(cast("Groups", reply), view)
