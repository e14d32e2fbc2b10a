"""What the control socket answers about limits; not imported where there are none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from wsgiref.types import StartResponse, WSGIEnvironment

from cnf import limit_answers
from cnf.errors import UsageError
from cnf.limiter import Limiter
from cnf.requests import Handler, count, output, parameters, stream
from cnf.sources import FIELDS
from cnf.state import State
from cnf.web import Peer, reply


class LimitControl:
    """The handlers of LIMIT_PATHS."""

    def __init__(self, state: State, limiter: Limiter) -> None:
        """Answer for ``limiter``."""
        self._state = state
        self._limiter = limiter

    @property
    def handlers(self) -> Mapping[str, Mapping[str, Handler]]:
        """Return them by path and method."""
        return {
            "/v1/limits": {"GET": self._rules, "POST": self._change},
            "/v1/limits/sources": {"GET": self._sources},
            "/v1/limits/explain": {"GET": self._explain},
        }

    def _rules(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters(environ)
        return reply(start_response, "200 OK", limit_answers.rules(self._limiter))

    def _change(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parameters(environ)
        peer: Peer = environ["cnf.peer"]
        try:
            body = json.loads(environ["wsgi.input"].read())
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the request is not JSON: {error}") from None
        return reply(start_response, "200 OK", limit_answers.change(self._limiter, body, peer.uid, peer.pid))

    def _sources(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = parameters(environ, "top", "sort", "format")
        form = output(asked)
        sources, total = limit_answers.sources(self._limiter, asked.get("sort", "dropped"), count(asked))
        if form != "json":
            return stream(start_response, form, iter(sources), FIELDS)
        answer = {
            "sources": sources,
            "total": total,
            "drain_age_seconds": round(self._state.drain_age(), 3),
            "drain_interval_seconds": self._state.settings.flows.drain_interval,
        }
        return reply(start_response, "200 OK", answer)

    def _explain(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = parameters(environ, "address", "protocol", "interface")
        words = (asked.get(name, "") for name in ("address", "protocol", "interface"))
        return reply(start_response, "200 OK", limit_answers.explanation(self._limiter, self._state.drained(), *words))
