"""The application of the metrics server: /metrics, /healthz, /readyz, and the page of the node."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from http import HTTPStatus
from typing import ClassVar, Final
from urllib.parse import parse_qs

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector, CollectorRegistry

from cnf.readers import shortened
from cnf.server.http import Bounds
from cnf.server.live import Live
from cnf.server.messages import TEXT, Answer, Paths, Request, RequestError, encode, handler
from cnf.server.page.page import Page
from cnf.server.state import State

SUFFIXES: Final = ("", "_total", "_bucket", "_sum", "_count", "_created")
"""Suffixes of the names of a family's samples."""


class Exposition:
    """The application of the metrics server."""

    BOUNDS: ClassVar = Bounds(large=8, threads=2)

    def __init__(self, state: State, live: Live, registry: CollectorRegistry) -> None:
        """Show what is in ``registry``, and on the page what ``state`` and ``live`` say."""
        self._state = state
        self._registry = registry
        page = Page(state, live)
        self._paths: Paths = {
            "/metrics": {"GET": self._metrics},
            "/healthz": {"GET": lambda _request: _text(HTTPStatus.OK, "ok")},
            "/readyz": {"GET": self._ready},
            "/": {"GET": page.answer},
            "/style.css": {"GET": page.style},
        }

    def answer(self, request: Request) -> Answer:
        """Answer one request. Raises RequestError."""
        return handler(self._paths, request)(request)

    def refuse(self, error: RequestError) -> Answer:
        """Answer with a line of text."""
        return replace(_text(error.status, str(error)), headers=error.headers)

    def is_large(self, request: Request) -> bool:
        """Tell whether it is a scrape, or the page."""
        return request.path in ("/metrics", "/")

    def _metrics(self, request: Request) -> Answer:
        names = parse_qs(request.query, errors="backslashreplace").get("name[]")
        registry = _Named(self._registry, set(names)) if names else self._registry
        encoder, kind = choose_encoder(request.headers.get("accept", ""))
        body = encoder(registry)
        if not gzip_accepted(request.headers.get("accept-encoding", "")):
            return Answer(HTTPStatus.OK, body, kind)
        return Answer(HTTPStatus.OK, gzip.compress(body), kind, {"Content-Encoding": "gzip"})

    def _ready(self, request: Request) -> Answer:  # noqa: ARG002 - a handler as the others are
        reason = self._state.not_ready()
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, reason) if reason else _text(HTTPStatus.OK, "ready")


class _Named(Collector):
    """The samples with some names (``name[]``, as in prometheus-client), or all samples of a family by its name."""

    def __init__(self, registry: CollectorRegistry, names: AbstractSet[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Yield the families. Raises RequestError if a name is unknown."""
        unknown = set(self._names)
        for family in self._registry.collect():
            named = {family.name + suffix for suffix in SUFFIXES} & self._names
            if named:
                unknown -= named
                if family.name not in named:
                    family.samples = [sample for sample in family.samples if sample.name in named]
                yield family
        if unknown:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"no metric has the name {shortened(min(unknown))!r}")


def _text(status: HTTPStatus, line: str) -> Answer:
    return Answer(status, encode(f"{line}\n"), TEXT)
