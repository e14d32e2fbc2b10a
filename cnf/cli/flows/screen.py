"""Flows on a screen, again and again: a header, what is chosen, and as many rows as fit."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cnf.cli.api.client import Client
from cnf.cli.api.replies import Flows, Groups, Pairs, Status
from cnf.cli.flows.choices import HELP, PAIRS, Choices, pressed
from cnf.cli.flows.listing import Asked, ask, lines_of
from cnf.cli.flows.names import Names
from cnf.cli.flows.table import View
from cnf.cli.show.table import style_for
from cnf.errors import UsageError
from cnf.units import clock_time, count, cut_end, duration, printable

HEADER: int = 4
"""Lines above the rows: title, node, choices, and the table's own title; one more is the summary below."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What the daemon has said, and when."""

    at: datetime
    status: Status
    asked: Asked
    reply: Flows | Pairs | Groups


class FlowScreen:
    """What ``cnfctl flows --watch`` shows (``cnf.cli.show.watch.Watched``)."""

    def __init__(  # noqa: PLR0913 - what the command line asks for
        self,
        client: Client,
        choices: Choices,
        top: int | None,
        seconds: float,
        names: Names | None = None,
        *,
        owner: bool = False,
    ) -> None:
        """Show at most ``top`` rows, every ``seconds``; with ``names``, and each flow's ``owner``."""
        self._client = client
        self._choices = choices
        self._before = choices
        self._top = top
        self._seconds = seconds
        self._names = names
        self._owner = owner
        self._read: _Read | None = None
        self._refused = ""

    def press(self, keys: str) -> bool:
        """Take keys; return False to end."""
        interfaces = self._read.status["interfaces"] if self._read else []
        chosen = pressed(self._choices, keys, [interface["name"] for interface in interfaces])
        if chosen is None:
            return False
        if chosen.expression != self._choices.expression:
            self._refused = ""
        self._choices = chosen
        return True

    def frame(self, terminal: os.terminal_size) -> list[str]:
        """Return a screenful. While it is paused the daemon is asked only for what other choices need."""
        width = terminal.columns
        read = self._read
        if read is None or not self._choices.paused or read.asked != self._asked():
            read = self._read = self._ask(terminal)
        view = self._view(read, width)
        head = [self._title(read, width), cut_end(_node(read.status, view), width), self._chosen(width)]
        if self._choices.help:
            return [*head, *(cut_end(f"  {keys:8} {meaning}", width) for keys, meaning in HELP)]
        return [*head, *lines_of(read.reply, read.asked, view)]

    def _asked(self) -> Asked:
        choices = self._choices
        owner = self._owner and choices.way in {None, PAIRS}
        return Asked(choices.sort, choices.way, choices.expression, owner=owner)

    def _ask(self, terminal: os.terminal_size) -> _Read:
        """Ask for the rows. A filter that is refused while watching is taken back, and the line says why."""
        status = self._client.status()
        rows = max(terminal.lines - HEADER - 1, 1)
        try:
            asked = self._asked()
            reply = ask(self._client, asked, min(self._top or rows, rows), self._names)
        except UsageError as error:
            if self._read is None or self._choices.expression == self._before.expression:
                raise
            self._refused = str(error)
            self._choices = replace(self._choices, filter=self._before.filter, interface=self._before.interface)
            return self._read
        self._before = self._choices
        return _Read(datetime.now(UTC), status, asked, reply)

    def _view(self, read: _Read, width: int) -> View:
        filtered, octets = read.asked.filter is not None, self._choices.octets
        return View(width, style_for(sys.stdout), read.at, read.asked.sort, filtered, octets, folds=False)

    def _title(self, read: _Read, width: int) -> str:
        style = style_for(sys.stdout)
        name, leave = "cnfctl flows", "? helps, q quits"
        pace = "paused" if self._choices.paused else f"every {duration(self._seconds)}"
        by = f", by {read.asked.way}" if read.asked.way else ""
        text = f"  {clock_time(read.at)}, {pace}{by}, most {read.asked.sort} first"
        text = cut_end(text, max(width - len(name), 1))
        room = width - len(name) - len(text)
        return style.bold(name) + text + (style.dim(leave.rjust(room)) if room > len(leave) else "")

    def _chosen(self, width: int) -> str:
        """Return the filter in force, the one that is being typed, or why one was refused."""
        choices = self._choices
        if choices.typed is not None:
            typed = printable(choices.typed)
            return f"filter: {typed[-max(width - 10, 1) :]}_"
        if self._refused:
            return style_for(sys.stdout).warn(cut_end(printable(self._refused), width))
        return "" if choices.expression is None else cut_end(f"filter: {printable(choices.expression)}", width)


def _node(status: Status, view: View) -> str:
    """Return what the whole node does: its rates, flows, the fuller table, and drops a second."""
    ways = [
        f"{way} {view.rate(rates['bits_per_second'])} {count(rates['packets_per_second'])}/s"
        for way, rates in (("in", status["rates"]), ("out", status["sent_rates"]))
    ]
    tables = status["flow_table"].values()
    flows = sum(table["entries"] for table in tables)
    fill = max((table["entries"] / table["capacity"] for table in tables), default=0.0)
    drops = count(status["rates"]["drops_per_second"])
    return f"{', '.join(ways)}; {count(flows)} flows, {100 * fill:.0f} % full; {drops} drops/s"
