"""The control socket's answers: HTTP and JSON, for cnfctl and for ``curl --unix-socket``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UsageError
from cnf.ledger import Ledger
from cnf.listing import FIELDS, select
from cnf.requests import Handler, count, number, output, parameters, stream
from cnf.state import State
from cnf.web import Peer, reply

STATUS_LINES: Final = {64: "400 Bad Request", 78: "409 Conflict", 69: "503 Service Unavailable", 77: "403 Forbidden"}
MOST_EVENTS: Final = 1000
"""In one answer; whoever follows them asks again."""
LIMIT_PATHS: Final = ("/v1/limits", "/v1/limits/sources", "/v1/limits/explain")


class Control:
    """The WSGI application of the control socket."""

    def __init__(
        self,
        state: State,
        group: int | None,
        limits: Mapping[str, Mapping[str, Handler]] | None,
        log: FilteringBoundLogger,
    ) -> None:
        """Answer root, the daemon's own user and members of ``group`` (a gid).

        ``limits`` answer at LIMIT_PATHS, by path and method; None where there is no limiter.
        """
        self._state = state
        self._group = group
        self._log = log
        self._paths: dict[str, Mapping[str, Handler]] = {
            "/v1/flows": {"GET": self._flows},
            "/v1/status": {"GET": self._status},
            "/v1/events": {"GET": self._events},
            **(limits or {path: {"GET": self._no_limits, "POST": self._no_limits} for path in LIMIT_PATHS}),
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
        asked = parameters(environ, "top", "sort", "filter", "format")
        snapshot, form = self._state.drained(), output(asked)
        selection = select(snapshot, asked.get("filter", ""), asked.get("sort", "bytes"), count(asked))
        if form != "json":
            return stream(start_response, form, selection.flows(), FIELDS)
        answer = {
            "flows": list(selection.flows()),
            "matched": selection.matched,
            "total": sum(len(part.flows) for part in snapshot.parts()),
            "totals": selection.totals._asdict(),
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return reply(start_response, "200 OK", answer)

    def _status(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters(environ)
        return reply(start_response, "200 OK", status(self._state))

    def _events(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked, reader = parameters(environ, "after", "top"), self._state.events
        if reader is None:
            problem = "nothing has events (add a table [limits], or flows.evicted_records = true, and restart)"
            raise ConfigError(self._state.config_source, [Problem("limits", problem)])
        top, after, last = count(asked), number(asked, "after"), reader.log.last
        most = MOST_EVENTS if top is None else min(top, MOST_EVENTS)
        answer = {
            "events": reader.log.after(last - most if after is None else after, most),
            "last": last,
            "ring": reader.ring_id,
            "lost": reader.lost(),
            "started": _started(self._state),
        }
        return reply(start_response, "200 OK", answer)

    def _no_limits(
        self,
        environ: WSGIEnvironment,  # noqa: ARG002 - a handler as the others are
        start_response: StartResponse,  # noqa: ARG002
    ) -> Iterable[bytes]:
        problem = Problem("limits", "there is no such table, so that nothing can be limited (add one, and restart)")
        raise ConfigError(self._state.config_source, [problem])


def status(state: State) -> dict[str, Any]:
    """Return the state of everything as one JSON object."""
    snapshot = state.snapshot
    totals = state.totals()
    return {
        "daemon": {
            **state.build_info,
            "pid": os.getpid(),
            "started": _started(state),
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
        "limiter": state.limiter.summary() if state.limiter else None,
        "rates": {"packets_per_second": round(state.rates[0], 3), "bits_per_second": round(8 * state.rates[1], 3)},
    }


def _started(state: State) -> str:
    return datetime.fromtimestamp(state.started, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _ledger(ledger: Ledger) -> dict[str, dict[str, int]]:
    rows = {"received": ledger.received, **ledger.states, "difference": ledger.difference}
    return {unit: {name: getattr(count, unit) for name, count in rows.items()} for unit in ("packets", "bytes")}
