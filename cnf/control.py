"""The control socket's answers: HTTP and JSON, for cnfctl and for ``curl --unix-socket``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

from structlog.typing import FilteringBoundLogger

from cnf import limit_answers
from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError, UsageError
from cnf.ledger import Ledger
from cnf.limiter import Limiter
from cnf.listing import FIELDS, select, to_csv, to_jsonl
from cnf.snapshot import Snapshot
from cnf.sources import FIELDS as SOURCE_FIELDS
from cnf.state import State
from cnf.web import Peer, reply

STATUS_LINES: Final = {64: "400 Bad Request", 78: "409 Conflict", 69: "503 Service Unavailable", 77: "403 Forbidden"}
STREAMED: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
BLOCK: Final = 64 << 10

Handler = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


class Control:
    """The WSGI application of the control socket."""

    def __init__(self, state: State, group: int | None, log: FilteringBoundLogger) -> None:
        """Answer root, the daemon's own user and members of ``group`` (a gid)."""
        self._state = state
        self._group = group
        self._log = log
        self._paths: dict[str, dict[str, Handler]] = {
            "/v1/flows": {"GET": self._flows},
            "/v1/status": {"GET": self._status},
            "/v1/limits": {"GET": self._limits, "POST": self._change_limits},
            "/v1/limits/sources": {"GET": self._sources},
            "/v1/limits/explain": {"GET": self._explain},
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; an error is one line of JSON with the exit status that cnfctl ends with."""
        try:
            self._admit(environ["cnf.peer"])
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            if path not in self._paths:
                error = {"error": f"nothing is at {path!r}: there are {', '.join(self._paths)}", "exit_status": 64}
                return reply(start_response, "404 Not Found", error)
            if method not in self._paths[path]:
                raise UsageError(f"{method} is not answered at {path}: expected {' or '.join(self._paths[path])}")
            return self._paths[path][method](environ, start_response)
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

    def _flows(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters = _parameters(environ, "top", "sort", "filter", "format")
        snapshot = self._snapshot()
        selection = select(
            snapshot, parameters.get("filter", ""), parameters.get("sort", "bytes"), _count(parameters.get("top", ""))
        )
        form = _format(parameters)
        if form != "json":
            return _stream(start_response, form, selection.flows(), FIELDS)
        answer = {
            "flows": list(selection.flows()),
            "matched": selection.matched,
            "total": sum(len(flows) for flows in snapshot.flows.values()),
            "totals": selection.totals._asdict(),
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return reply(start_response, "200 OK", answer)

    def _status(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _parameters(environ)
        return reply(start_response, "200 OK", status(self._state))

    def _limits(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _parameters(environ)
        return reply(start_response, "200 OK", limit_answers.rules(self._limiter()))

    def _change_limits(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _parameters(environ)
        peer: Peer = environ["cnf.peer"]
        try:
            body = json.loads(environ["wsgi.input"].read())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the request is not JSON: {error}") from None
        return reply(start_response, "200 OK", limit_answers.change(self._limiter(), body, peer.uid, peer.pid))

    def _sources(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters = _parameters(environ, "top", "sort", "format")
        limiter, form = self._limiter(), _format(parameters)
        sources, total = limit_answers.sources(
            limiter, parameters.get("sort", "dropped"), _count(parameters.get("top", ""))
        )
        if form != "json":
            return _stream(start_response, form, iter(sources), SOURCE_FIELDS)
        answer = {
            "sources": sources,
            "total": total,
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return reply(start_response, "200 OK", answer)

    def _explain(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters = _parameters(environ, "address", "protocol", "interface")
        words = (parameters.get(name, "") for name in ("address", "protocol", "interface"))
        return reply(start_response, "200 OK", limit_answers.explanation(self._limiter(), self._snapshot(), *words))

    def _snapshot(self) -> Snapshot:
        if self._state.snapshot is None:
            raise UnavailableError("no drain yet: the daemon is starting, or its drains fail (see cnfctl status)")
        return self._state.snapshot

    def _limiter(self) -> Limiter:
        if self._state.limiter is None:
            problem = Problem("limits", "there is no such table, so that nothing can be limited (add one, and restart)")
            raise ConfigError(self._state.config_source, [problem])
        return self._state.limiter


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
        "limiter": limit_answers.summary(state.limiter) if state.limiter else None,
        "rates": {"packets_per_second": round(state.rates[0], 3), "bits_per_second": round(8 * state.rates[1], 3)},
    }


def _ledger(ledger: Ledger) -> dict[str, dict[str, int]]:
    rows = {"received": ledger.received, **ledger.states, "difference": ledger.difference}
    return {unit: {name: getattr(count, unit) for name, count in rows.items()} for unit in ("packets", "bytes")}


def _parameters(environ: WSGIEnvironment, *known: str) -> dict[str, str]:
    parameters = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True, errors="backslashreplace"))
    unknown = parameters.keys() - set(known)
    if unknown:
        raise UsageError(f"unknown parameter {min(unknown)!r}: expected one of {', '.join(sorted(known)) or 'none'}")
    return parameters


def _count(top: str) -> int | None:
    if top and not (top.isascii() and top.isdecimal()):
        raise UsageError(f"top is {top!r}: expected a whole number")
    return int(top) if top else None


def _format(parameters: Mapping[str, str]) -> str:
    form = parameters.get("format", "json")
    if form not in {"json", *STREAMED}:
        raise UsageError(f"format is {form!r}: expected json, jsonl or csv")
    return form


def _stream(
    start_response: StartResponse, form: str, objects: Iterator[dict[str, Any]], fields: Sequence[str]
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", STREAMED[form])])
    return _blocks(to_csv(objects, fields) if form == "csv" else to_jsonl(objects))


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
