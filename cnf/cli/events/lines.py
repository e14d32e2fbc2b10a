"""Events as lines of text: time, kind and details."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final, cast

from cnf.cli.api.event_replies import Event, FirstDrop, FlowFinished, RuleGeneration
from cnf.cli.flows.table import endpoint
from cnf.cli.show.table import GAP, Style
from cnf.units import moment, packets, printable, size

_TITLES: Final = {
    "first_drop": "first drop",
    "rule_generation": "rule set",
    "flow_evicted": "flow evicted",
    "flow_expired": "flow expired",
}
_WIDTH: Final = max(map(len, _TITLES.values()))


def event_line(event: Event, style: Style) -> str:
    """Return an event as a line."""
    time = moment(datetime.fromisoformat(event["time"]), milliseconds=True)
    title = _TITLES.get(event["event"], event["event"]).ljust(_WIDTH)
    return GAP.join((style.dim(time), style.bold(printable(title)), printable(_details(event))))


def _details(event: Event) -> str:
    match event["event"]:
        case "first_drop":
            return _first_drop(cast("FirstDrop", event))
        case "rule_generation":
            return f"generation {cast('RuleGeneration', event)['generation']} in force"
        case "flow_evicted" | "flow_expired":
            return _flow(cast("FlowFinished", event))
        case _:  # an event of a newer daemon
            return json.dumps({key: value for key, value in event.items() if key not in Event.__annotations__})


def _first_drop(drop: FirstDrop) -> str:
    source = drop["source"] if drop["source"] == drop["address"] else f"{drop['source']} ({drop['address']})"
    if drop["denied"]:
        return f"{source} on {drop['interface']}, denied{f' by the set {name}' if (name := drop['set']) else ''}"
    rule = f"rule {drop['rule']}" if drop["rule"] is not None else "a rule that is gone"
    return f"{source} on {drop['interface']}, by {rule}"


def _flow(flow: FlowFinished) -> str:
    source, destination = (
        endpoint(flow, flow["src_addr"], flow["src_port"]),
        endpoint(flow, flow["dst_addr"], flow["dst_port"]),
    )
    return (
        f"{flow['protocol']} {source} > {destination} on {flow['interface']},"
        f" {packets(flow['packets'])}, {size(flow['bytes'])}"
    )
