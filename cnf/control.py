"""The control socket's answers: HTTP and JSON, for cnfctl and for ``curl --unix-socket``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError, PrivilegeError, UnavailableError, UsageError
from cnf.ledger import Ledger
from cnf.listing import select, to_csv, to_jsonl
from cnf.state import State
from cnf.web import Peer, reply

STATUS_LINES: Final = {64: "400 Bad Request", 69: "503 Service Unavailable", 77: "403 Forbidden"}
STREAMED: Final = {"jsonl": ("application/x-ndjson", to_jsonl), "csv": ("text/csv; charset=utf-8", to_csv)}
FLOW_PARAMETERS: Final = frozenset({"top", "sort", "filter", "format"})
BLOCK: Final = 64 << 10


class Control:
    """The WSGI application of the control socket."""

    def __init__(self, state: State, group: int | None, log: FilteringBoundLogger) -> None:
        """Answer root, the daemon's own user and members of ``group`` (a gid)."""
        self._state = state
        self._group = group
        self._log = log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; an error is one line of JSON with the exit status that cnfctl ends with."""
        try:
            self._admit(environ["cnf.peer"])
            if environ["REQUEST_METHOD"] != "GET":
                raise UsageError(f"{environ['REQUEST_METHOD']} is not answered here: expected GET")
            parameters = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True, errors="backslashreplace"))
            match environ["PATH_INFO"]:
                case "/v1/flows":
                    return self._flows(parameters, start_response)
                case "/v1/status":
                    return reply(start_response, "200 OK", status(self._state))
                case path:
                    error = {"error": f"nothing is at {path!r}: there are /v1/flows and /v1/status", "exit_status": 64}
                    return reply(start_response, "404 Not Found", error)
        except CnfError as error:
            answer = {"error": str(error), "exit_status": error.exit_status}
            return reply(start_response, STATUS_LINES.get(error.exit_status, "500 Internal Server Error"), answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a line and the daemon lives
            self._log.error("control request failed", path=environ["PATH_INFO"], error=repr(error))
            answer = {"error": f"cnfd failed to answer: {error!r} (this is a defect of cnfd)", "exit_status": 70}
            return reply(start_response, "500 Internal Server Error", answer)

    def _admit(self, peer: Peer) -> None:
        if peer.uid in (0, os.geteuid()) or self._group in peer.groups:
            return
        self._log.warning("control request refused", uid=peer.uid, pid=peer.pid)
        message = f"user {peer.uid} may not use this socket (run as root, or join the group that control.group names)"
        raise PrivilegeError(message)

    def _flows(self, parameters: Mapping[str, str], start_response: StartResponse) -> Iterable[bytes]:
        unknown = parameters.keys() - FLOW_PARAMETERS
        if unknown:
            raise UsageError(
                f"unknown parameter {min(unknown)!r}: expected one of {', '.join(sorted(FLOW_PARAMETERS))}"
            )
        snapshot = self._state.snapshot
        if snapshot is None:
            raise UnavailableError("no drain yet: the daemon is starting, or its drains fail (see cnfctl status)")
        top = parameters.get("top", "")
        if top and not (top.isascii() and top.isdecimal()):
            raise UsageError(f"top is {top!r}: expected a whole number of flows")
        selection = select(
            snapshot, parameters.get("filter", ""), parameters.get("sort", "bytes"), int(top) if top else None
        )
        form = parameters.get("format", "json")
        if form in STREAMED:
            kind, lines = STREAMED[form]
            start_response("200 OK", [("Content-Type", kind)])
            return _blocks(lines(selection.flows()))
        if form != "json":
            raise UsageError(f"format is {form!r}: expected json, jsonl or csv")
        answer = {
            "flows": list(selection.flows()),
            "matched": selection.matched,
            "total": sum(len(flows) for flows in snapshot.flows.values()),
            "totals": selection.totals._asdict(),
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return reply(start_response, "200 OK", answer)


def status(state: State) -> dict[str, Any]:
    """Return the state of everything as one JSON object."""
    snapshot = state.snapshot
    totals = state.totals()
    return {
        "daemon": {
            **state.build_info,
            "pid": os.getpid(),
            "started": datetime.fromtimestamp(state.started, UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
            "uptime_seconds": round(time.monotonic() - state.started_monotonic, 3),
            "config": state.config_source,
        },
        "interfaces": [
            {
                **asdict(interface),
                "received_packets": int(totals[interface.name]["packets"].sum()) if interface.name in totals else 0,
                "received_bytes": int(totals[interface.name]["bytes"].sum()) if interface.name in totals else 0,
            }
            for interface in state.interfaces
        ],
        "flow_table": {
            family: {**asdict(table), "insert_errors": sum(table.insert_errors.values())}
            for family, table in (snapshot.tables.items() if snapshot else ())
        },
        "ledger": _ledger(snapshot.ledger) if snapshot else {},
        "drain": {
            "age_seconds": round(state.drain_age(), 3),
            "duration_seconds": round(snapshot.duration, 6) if snapshot else None,
            "interval_seconds": state.settings.flows.drain_interval,
            "errors": state.drain_errors,
            "last_error": state.last_error,
        },
        "rates": {"packets_per_second": round(state.rates[0], 3), "bits_per_second": round(8 * state.rates[1], 3)},
    }


def _ledger(ledger: Ledger) -> dict[str, dict[str, int]]:
    rows = {"received": ledger.received, **ledger.states, "difference": ledger.difference}
    return {unit: {name: getattr(count, unit) for name, count in rows.items()} for unit in ("packets", "bytes")}


def _blocks(lines: Iterator[str]) -> Iterator[bytes]:
    """Join lines to blocks, so that a client is not woken for each."""
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= BLOCK:
            yield "".join(block).encode(errors="backslashreplace")
            block, size = [], 0
    yield "".join(block).encode(errors="backslashreplace")
