"""The page: what the node sees now and has seen for a day, who sends most, and who is held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from itertools import islice
from socket import gethostname
from typing import Any, Final
from xml.etree.ElementTree import Element

import numpy as np

from cnf import __version__
from cnf.flows.groups import group
from cnf.flows.snapshot import Snapshot
from cnf.history.day import Day, Rates
from cnf.server import limits_json
from cnf.server.live import Live
from cnf.server.messages import Answer, Request, encode
from cnf.server.page.chart import chart
from cnf.server.page.elements import document, element, section, table
from cnf.server.state import State
from cnf.server.status import status
from cnf.units import bit_rate, count, duration, number_of, size

ROWS: Final = 10
"""Sources, destinations, and sources that are held back."""
REFRESH: Final = 30
"""Seconds until a browser asks again."""
INTERFACES: Final = 50
"""Interfaces in the table."""
TROUBLES: Final = 10
HOURS: Final = 4
"""Hours between two times below a chart."""
POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STYLE: Final = files(__package__).joinpath("style.css").read_bytes()
STYLE_URL: Final = f"style.css?{sha256(STYLE).hexdigest()[:8]}"
"""Another one when it has changed, so that a browser may keep it."""
STILL: Final = "still"
"""The query of a page that is not asked for again."""
LINKS: Final = {
    "metrics": "for Prometheus",
    "healthz": "the process lives",
    "readyz": "the program is attached, and the latest drain is fresh",
}
"""Relative, as all links are: a proxy may have the page in a folder of its own."""


class Page:
    """The application's answers at ``/`` and ``/style.css``."""

    def __init__(self, state: State, live: Live) -> None:
        """Show what these say."""
        self._state = state
        self._live = live
        self._day = Day()

    def answer(self, request: Request) -> Answer:
        """Answer with the page; addresses stand in it for who is on the node itself, or has a password."""
        still = request.query == STILL
        head = [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            *(() if still else [element("meta", http_equiv="refresh", content=REFRESH)]),
            element("title", f"cnf on {gethostname()}"),
            element("link", rel="stylesheet", href=STYLE_URL),
        ]
        main = element("main", *self._body(known=bool(request.user) or request.from_this_node))
        page = encode(document(head, [main, _footer(still=still)]))
        return Answer(HTTPStatus.OK, page, "text/html; charset=utf-8", HEADERS)

    @staticmethod
    def style(request: Request) -> Answer:  # noqa: ARG004 - a handler as the others are
        """Answer with the style sheet."""
        headers = HEADERS | {"Cache-Control": "max-age=86400"}
        return Answer(HTTPStatus.OK, STYLE, "text/css; charset=utf-8", headers)

    def _body(self, *, known: bool) -> Iterator[Element]:
        described = status(self._state, self._live)
        yield from _heading(described, self._state.not_ready())
        yield _now(described)
        yield self._last_day()
        if self._state.snapshot is not None:
            if known:
                yield from _largest(self._state.snapshot)
                yield self._held_back()
            else:
                yield section(
                    "Sources and destinations", element("p", _NOT_SHOWN.format(port=self._state.settings.metrics.port))
                )
            yield _ledger(described)
        yield _interfaces(described["interfaces"])

    def _last_day(self) -> Element:
        title = "The last 24 hours"
        if self._live.history is None:
            return section(title, element("p", 'No history is kept: set history.keep = "24h", and restart.'))
        now = datetime.now(UTC)
        try:
            rates = self._day.rates(self._live.history.folder, round(now.timestamp() * 1e9), self._live.draining)
        except OSError as error:
            return section(title, element("p", f"The history cannot be read: {error.filename}: {error.strerror}"))
        return section(title, *_charts(rates), _by_hour(rates))

    def _held_back(self) -> Element:
        title, limiter = "Held back", self._live.limiter
        if limiter is None:
            return section(title, element("p", "There are no limits: the kernel takes the program without them only."))
        rows, sizes = limits_json.sources(limiter, "over", ROWS, everyone=False)
        heads = ("source", "rule", "verdict", "packets/s", "bit/s", "dropped", "would drop")
        shown = table(title, heads, map(_source, rows), 4)
        many = f"{number_of(sizes['total'], 'source')}: over a limit, or denied and not silent."
        return section(title, element("p", many), *([shown] if sizes["total"] else []))


_NOT_SHOWN: Final = (
    "Addresses are shown by a password (metrics.web_config), and on the node itself, at a loopback address and without "
    "a proxy between: for instance through ssh -L {port}:127.0.0.1:{port} NODE."
)


def _heading(described: Mapping[str, Any], trouble: str | None) -> Iterator[Element]:
    daemon, drain = described["daemon"], described["drain"]
    yield element("h1", f"{gethostname()} ", element("small", f"cnfd {__version__}"))
    troubles = [text for text in (trouble, drain["last_error"]) if text]
    troubles += [f"{each['name']}: {text}" for each in described["interfaces"] for text in _troubles(each)]
    if len(troubles) > TROUBLES:
        more = len(troubles) - TROUBLES
        troubles[TROUBLES:] = [f"... and {number_of(more, 'more warning')} (cnfctl status)"]
    yield from (element("p", text, class_="trouble") for text in troubles)
    age = f"drained {duration(drain['age_seconds'])} ago, every {duration(drain['interval_seconds'])}"
    yield element("p", f"{'' if troubles else 'Well. '}Up for {duration(daemon['uptime_seconds'])}, {age}.")


def _troubles(interface: Mapping[str, Any]) -> Iterator[str]:
    yield from (interface[name] for name in ("error", "warning") if interface[name])


def _now(described: Mapping[str, Any]) -> Element:
    received, sent = described["rates"], described["sent_rates"]
    tables = described["flow_table"].values()
    tiles = {
        "received": f"{bit_rate(received['bits_per_second'])}, {count(received['packets_per_second'])} packets/s",
        "sent": f"{bit_rate(sent['bits_per_second'])}, {count(sent['packets_per_second'])} packets/s",
        "dropped": f"{count(received['drops_per_second'])} packets/s",
        "flows": f"{sum(each['entries'] for each in tables):,}",
    }
    listed = [element("div", element("dt", name), element("dd", text)) for name, text in tiles.items()]
    return section("Now", element("dl", *listed))


def _charts(rates: Rates) -> Iterator[Element]:
    by_name, hours = rates.by_name, list(_hours(rates))
    octets = {way: 8 * by_name[f"{way}_bytes"] for way in ("received", "sent", "dropped")}
    packets = {way: by_name[f"{way}_packets"] for way in octets}
    yield chart("bit/s", octets, hours, bit_rate)
    yield chart("packets/s", packets, hours, lambda value: f"{count(value)} packets/s")


def _hours(rates: Rates) -> Iterator[tuple[float, str]]:
    """Yield where every few hours of local time stand in a chart, from 0 to 1, and what they are called."""
    begin = _local(int(rates.begin[0]))
    length = len(rates.begin) * int(rates.begin[1] - rates.begin[0]) / 1e9
    hour = begin.replace(minute=0, second=0, microsecond=0)
    while (place := (hour - begin).total_seconds() / length) < 1:
        if place > 0 and hour.hour % HOURS == 0:
            yield place, f"{hour:%H:%M}"
        hour = (hour + timedelta(hours=1)).astimezone()


def _by_hour(rates: Rates) -> Element:
    """Return the charts as a table, latest hour first."""
    names = tuple(rates.by_name)
    columns = np.stack([rates.by_name[name] for name in names])
    rows = []
    for begin, values in _whole_hours(rates, columns):
        cells = [
            "-" if np.isnan(value) else bit_rate(8 * value) if name.endswith("bytes") else count(value)
            for name, value in zip(names, values, strict=True)
        ]
        rows.append([f"{begin:%Y-%m-%d %H:%M %Z}", *cells])
    heads = [f"{name.partition('_')[0]} {'bit/s' if name.endswith('bytes') else 'packets/s'}" for name in names]
    shown = table("The last 24 hours", ["from", *heads], rows, len(names))
    return element("details", element("summary", "as a table, by hours of the node's local time"), shown)


def _whole_hours(rates: Rates, columns: np.ndarray[Any, Any]) -> Iterator[tuple[datetime, list[float]]]:
    starts = [_local(begin) for begin in rates.begin.tolist()]
    hours = [start.replace(minute=0) for start in starts]
    for hour in reversed(dict.fromkeys(hours)):
        values = columns[:, [each == hour for each in hours]]
        known = ~np.isnan(values[0])
        yield hour, (values[:, known].mean(axis=1) if known.any() else values[:, 0]).tolist()


def _local(moment: int) -> datetime:
    """Return ns since the epoch in the node's time zone."""
    return datetime.fromtimestamp(moment / 1e9, UTC).astimezone()


def _largest(snapshot: Snapshot) -> Iterator[Element]:
    for title, by, field in (("Largest sources", "src", "src_addr"), ("Largest destinations", "dst", "dst_addr")):
        groups = group(snapshot, "", by, "rate", ROWS)
        rows = [
            [
                each[field],
                f"{each['flows']:,}",
                bit_rate(each["bits_per_second"] or 0),
                count(each["packets_per_second"] or 0),
                size(each["bytes"]),
                count(each["dropped_packets"]),
            ]
            for each in islice(groups.objects(), ROWS)
        ]
        heads = ("address", "flows", "bit/s", "packets/s", "bytes", "dropped")
        yield section(title, table(title, heads, rows, 5))


def _source(row: Mapping[str, Any]) -> list[str]:
    return [
        row["source"],
        row["rule"] or "-",
        row["verdict"].replace("_", " "),
        count(row["packets_per_second"] or 0),
        bit_rate(row["bits_per_second"] or 0),
        count(row["dropped_packets"]),
        count(row["would_drop_packets"]),
    ]


def _ledger(described: Mapping[str, Any]) -> Element:
    ledgers = (described["ledger"], described["sent_ledger"])
    rows = []
    for state in ("seen", *(name for name in ledgers[0]["packets"] if name != "received")):
        names = ("received", "sent") if state == "seen" else (state, state)
        cells = [
            f"{abs(ledger[unit][name]):,}"
            for ledger, name in zip(ledgers, names, strict=True)
            for unit in ("packets", "bytes")
        ]
        rows.append(["passed during the drain" if state == "difference" else state.replace("_", " "), *cells])
    title = "Ledger: where every packet is"
    heads = ("state", "packets received", "bytes received", "packets sent", "bytes sent")
    return section(title, table(title, heads, rows, 4))


def _interfaces(interfaces: list[dict[str, Any]]) -> Element:
    counters = [f"{way}_{unit}" for way in ("received", "sent") for unit in ("packets", "bytes")]
    heads = ("interface", "state", "mode", *(" ".join(reversed(counter.split("_"))) for counter in counters))
    shown, notes = interfaces, []
    if len(interfaces) > INTERFACES:
        shown = sorted(interfaces, key=lambda each: each["received_bytes"] + each["sent_bytes"], reverse=True)
        shown = shown[:INTERFACES]
        notes = [element("p", f"{INTERFACES} of {len(interfaces):,}, by bytes (cnfctl status has all).")]
    rows = [
        [each["name"], each["state"], each["mode"] or "-", *(f"{each[counter]:,}" for counter in counters)]
        for each in shown
    ]
    return section("Interfaces", *notes, table("Interfaces", heads, rows, 4))


def _footer(*, still: bool) -> Element:
    links = [element("li", element("a", path, href=path), f": {what}") for path, what in LINKS.items()]
    if still:
        pace = element("p", "This page stays as it is. ", element("a", f"Ask again every {REFRESH} s", href="."))
    else:
        pace = element("p", f"Asked again every {REFRESH} s. ", element("a", "Let it stay", href=f"?{STILL}"))
    return element("footer", pace, element("ul", *links))
