"""The control socket's answers about limits."""

from __future__ import annotations

import json
from typing import Any

from cnf.errors import UsageError
from cnf.limiter.limiter import Limiter
from cnf.limiter.sources import FIELDS, sort_column
from cnf.server import limits_json
from cnf.server.explanation_json import explanation
from cnf.server.history_json import past_sources
from cnf.server.live import Live
from cnf.server.messages import Answer, Paths, Request, reply
from cnf.server.params import LISTINGS, Listing, count, flag, output, parameters, times
from cnf.server.state import State


class LimitControl:
    """The handlers of LIMIT_PATHS."""

    def __init__(self, state: State, live: Live, limiter: Limiter) -> None:
        """Answer for ``limiter``."""
        self._state = state
        self._live = live
        self._limiter = limiter
        self._listing = Listing(live.draining)

    @property
    def handlers(self) -> Paths:
        """Return them by path and method."""
        return {
            "/v1/limits": {"GET": self._rules, "POST": self._change},
            "/v1/limits/sources": {"GET": self._sources},
            "/v1/limits/explain": {"GET": self._explain},
            "/v1/limits/sets": {"GET": self._sets},
        }

    def _rules(self, request: Request) -> Answer:
        parameters(request)
        denied = limits_json.denied(self._limiter, self._live.totals())
        return reply(limits_json.rules(self._limiter) | {"denied": denied})

    def _sets(self, request: Request) -> Answer:
        parameters(request)
        return reply({"sets": limits_json.sets(self._limiter)})

    def _change(self, request: Request) -> Answer:
        parameters(request)
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the request is not JSON: {error}") from None
        peer = request.peer
        assert peer is not None  # noqa: S101 - it is a Unix socket
        return reply(limits_json.change(self._limiter, body, peer.uid, peer.pid))

    def _sources(self, request: Request) -> Answer:
        asked = parameters(request, *LISTINGS[request.path])
        form, past, sort = output(asked), times(asked), asked.get("sort", "over")
        if past is None:
            everyone = flag(asked, "all")
            sources, sizes = limits_json.sources(self._limiter, sort, count(asked), everyone=everyone)
            rest: dict[str, Any] = {**sizes, "history": None}
        else:
            sources, rest = past_sources(self._live, past, sort_column(sort), count(asked))
        rest |= {
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return self._listing.answer(form, sources, FIELDS, "sources", rest)

    def _explain(self, request: Request) -> Answer:
        asked = parameters(request, "address", "protocol", "interface")
        words = (asked.get(name, "") for name in ("address", "protocol", "interface"))
        return reply(explanation(self._limiter, self._state.drained(), *words))
