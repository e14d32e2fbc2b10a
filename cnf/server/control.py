"""The application of the control socket: HTTP and JSON, for cnfctl and for ``curl --unix-socket``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from http import HTTPStatus
from typing import Any, ClassVar, Final

from structlog.typing import FilteringBoundLogger

from cnf.capture.asked import Asked
from cnf.capture.capture import Capture
from cnf.capture.session import Peer
from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError, UsageError
from cnf.export.lines import Lines
from cnf.flows.groups import Dimension, Groups, group
from cnf.flows.query import Selection, select
from cnf.history.past_groups import Wanted, group_past
from cnf.kernel import capabilities
from cnf.kernel.cgroups import Cgroups
from cnf.limiter.by_rule import by_rule
from cnf.server import owners, streams
from cnf.server.history_json import past_flows
from cnf.server.http import Bounds
from cnf.server.limits_control import LimitControl
from cnf.server.live import Live
from cnf.server.messages import Answer, Paths, Request, RequestError, handler, reply
from cnf.server.params import (
    KINDS,
    LISTINGS,
    PCAPNG,
    Listing,
    asks_for_many,
    count,
    flag,
    number,
    output,
    parameters,
    times,
)
from cnf.server.reloads import Reloaded
from cnf.server.state import State
from cnf.server.status import started, status

STATUSES: Final = {
    64: HTTPStatus.BAD_REQUEST,
    69: HTTPStatus.SERVICE_UNAVAILABLE,
    77: HTTPStatus.FORBIDDEN,
    78: HTTPStatus.CONFLICT,
}
MOST_EVENTS: Final = 1000
"""Events in one answer; a client that wants more asks again."""
EXPORT_PARAMETERS: Final = ("since", "filter", "follow")
CAPTURE_PARAMETERS: Final = ("which", "filter", "count", "snaplen", "budget", "format")
EXIT_STATUSES: Final = {HTTPStatus.SERVICE_UNAVAILABLE: 69, HTTPStatus.INTERNAL_SERVER_ERROR: 70}
LIMIT_PATHS: Final = ("/v1/limits", "/v1/limits/sources", "/v1/limits/explain", "/v1/limits/sets")


class Control:
    """The application of the control socket."""

    BOUNDS: ClassVar = Bounds(large=2, queue=30.0, threads=4)  # a client is refused before cnfctl stops waiting

    def __init__(
        self,
        state: State,
        live: Live,
        groups: tuple[int | None, int | None],
        reload: Callable[[], Reloaded],
        log: FilteringBoundLogger,
    ) -> None:
        """Answer root, the daemon's own user and members of two groups, by gid: of the second, who changes nothing.

        ``reload`` reads the settings again.
        """
        self._state = state
        self._live = live
        self._group, self._read_group = groups
        self._reload = reload
        self._log = log
        self._listing = Listing(live.draining)
        self._cgroups = Cgroups()
        self._paths: Paths = {
            "/v1/flows": {"GET": self._flows},
            "/v1/status": {"GET": self._status},
            "/v1/events": {"GET": self._events},
            "/v1/export": {"GET": self._export},
            "/v1/reload": {"POST": self._reloaded},
            "/v1/capture": {"POST": self._capture},
            "/v1/capture/end": {"POST": self._end_capture},
            **self._limit_paths(),
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request. An error is one line of JSON with the exit status for cnfctl."""
        try:
            self._admit(request)
            return handler(self._paths, request)(request)
        except CnfError as error:
            status = STATUSES.get(error.exit_status, HTTPStatus.INTERNAL_SERVER_ERROR)
            return reply({"error": str(error), "exit_status": error.exit_status}, status)

    def refuse(self, error: RequestError) -> Answer:
        """Answer a request that is wrong in HTTP in the same form."""
        document = {"error": str(error), "exit_status": EXIT_STATUSES.get(error.status, UsageError.exit_status)}
        return replace(reply(document, error.status), headers=error.headers)

    def is_large(self, request: Request) -> bool:
        """Tell whether more than a few flows or sources are asked for, or any of the past, or all records."""
        if request.path == "/v1/export":
            return not _follows(request)
        return asks_for_many(request)

    def _admit(self, request: Request) -> None:
        peer = request.peer
        assert peer is not None  # noqa: S101 - it is a Unix socket
        if peer.uid in (0, os.geteuid()) or self._group in peer.groups:
            return
        may_look = self._read_group in peer.groups
        if may_look and request.method == "GET":
            return
        self._log.warning("control request refused", uid=peer.uid, pid=peer.pid, path=request.path)
        control = self._state.settings.control
        groups = (control.group,) if may_look else (control.group, control.read_group)
        others = "".join(f" or as a member of group {group}" for group in groups if group)
        what = "may only look" if may_look else "may not use this socket"
        raise PrivilegeError(f"user {peer.uid} {what}", remedy=f"run as root{others}")

    def _flows(self, request: Request) -> Answer:
        asked = parameters(request, *LISTINGS[request.path])
        form, pairs, owned, past = output(asked), flag(asked, "pairs"), flag(asked, "owner"), times(asked)
        if owned and (past or "by" in asked):
            raise UsageError("owner: expected flows or connections of now, without by, from and to")
        then = None if past is None else past_flows(self._live, past)
        if then is None:
            snapshot = self._state.drained()
            dropped = snapshot.ledgers["ingress"].states["dropped"]
        else:
            snapshot, dropped = then.snapshot, then.dropped
        which = (snapshot, asked.get("filter", ""))
        how = (asked.get("sort", "bytes"), count(asked))
        listed: Selection | Groups
        rest: dict[str, Any]
        if "by" not in asked:
            listed = selection = select(*which, *how, pairs=pairs)
            objects, fields, name, rest = selection.flows(), tuple(selection.fields), "flows", {}
            if owned:
                objects, fields = owners.with_owners(selection, self._cgroups), (*fields, *owners.FIELDS)
        elif pairs:
            raise UsageError("by and pairs: expected one of them")
        else:
            what, more = Wanted(which[1], asked["by"], *how), self._more_groups(snapshot.names)
            listed = groups = (
                group_past(then.found.joined, snapshot, what, more) if then else group(snapshot, *what, more=more)
            )
            objects, fields, name, rest = groups.objects(), groups.fields, "groups", {"flows_matched": groups.flows}
        rest |= {
            "matched": listed.matched,
            "total": sum(part.size for part in listed.parts),
            "totals": listed.totals._asdict(),
            "dropped": dropped._asdict(),
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
            "history": then.summary() if then else None,
        }
        return self._listing.answer(form, objects, fields, name, rest)

    def _status(self, request: Request) -> Answer:
        parameters(request)
        return reply(status(self._state, self._live))

    def _events(self, request: Request) -> Answer:
        asked, reader = parameters(request, "after", "top", "follow"), self._live.events
        if reader is None:
            raise _no_limits()
        top, after, last = count(asked), number(asked, "after"), reader.log.last
        most = MOST_EVENTS if top is None else min(top, MOST_EVENTS)
        if after is None:
            after = max(last - most, reader.log.first - 1)
        if flag(asked, "follow"):
            blocks = streams.events(reader, after, started(self._state))
            return Answer(HTTPStatus.OK, blocks, KINDS["jsonl"], bell=reader.log.bell)
        answer = {
            "events": reader.log.after(after, most),
            "last": last,
            "ring": reader.ring_id,
            "lost": reader.lost(),
            "started": started(self._state),
        }
        return reply(answer)

    def _export(self, request: Request) -> Answer:
        asked, log = parameters(request, *EXPORT_PARAMETERS), self._live.record_log
        if log is None:
            problem = 'no flow records are made (history.keep = "24h", or a table of [export], and restart)'
            raise ConfigError(self._state.config_source, [Problem("export", problem)])
        self._state.drained()  # the log knows the latest number from then on
        follow, since = flag(asked, "follow"), number(asked, "since")
        after = since if since is not None else log.kept.first - 1
        lines = Lines(asked.get("filter", ""))
        blocks = streams.records(log, lines, after, started(self._state), follow=follow)
        return Answer(HTTPStatus.OK, blocks, KINDS["jsonl"], bell=log.bell if follow else None)

    def _capture(self, request: Request) -> Answer:
        asked, peer = parameters(request, *CAPTURE_PARAMETERS), request.peer
        assert peer is not None  # noqa: S101 - it is a Unix socket
        numbers = {name: value for name in ("count", "snaplen", "budget") if (value := number(asked, name)) is not None}
        wanted = Asked(
            which=asked.get("which", "all"),
            expression=asked.get("filter", ""),
            form=asked.get("format", "pcapng"),
            **numbers,
        )
        session = self._capturing().begin(wanted, Peer(peer.uid, peer.pid))
        return Answer(HTTPStatus.OK, session, KINDS.get(wanted.form, PCAPNG), bell=session.bell)

    def _end_capture(self, request: Request) -> Answer:
        parameters(request)
        return reply({"ended": self._capturing().end()})

    def _capturing(self) -> Capture:
        assert self._live.capture is not None  # noqa: S101 - tests alone do without
        return self._live.capture

    def _reloaded(self, request: Request) -> Answer:
        parameters(request)
        return reply(asdict(self._reload()))

    def _more_groups(self, names: Mapping[int, str]) -> Mapping[str, tuple[Dimension, ...]]:
        """Return what flows can be grouped by where there are limits; ``names`` are the interfaces', by ifindex."""
        limiter = self._live.limiter
        if limiter is None:
            return {}
        in_force = limiter.in_force
        enforced = [(each.set, each.prefixes) for each in in_force.sets if each.mode == "enforce"]
        return {"rule": by_rule(in_force.ruleset, names, enforced)}

    def _limit_paths(self) -> Paths:
        """Return the handlers of LIMIT_PATHS."""
        if self._live.limiter is None:
            return {path: {"GET": self._no_limits, "POST": self._no_limits} for path in LIMIT_PATHS}
        return LimitControl(self._state, self._live, self._live.limiter).handlers

    def _no_limits(self, request: Request) -> Answer:  # noqa: ARG002 - a handler as the others are
        raise _no_limits()


def _no_limits() -> UnavailableError:
    return UnavailableError(
        f"no limits, and none of their events: {capabilities.NO_LIMITS}", remedy=capabilities.refused()
    )


def _follows(request: Request) -> bool:
    try:
        return flag(parameters(request, *EXPORT_PARAMETERS), "follow")
    except UsageError:
        return True  # the answer is one line
