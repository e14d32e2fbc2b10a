"""The HTTP side of the metrics: /metrics, /healthz, /readyz and a page that links them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from cnf import __version__
from cnf.state import State
from cnf.web import reply

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>cnfd</title></head><body>
<h1>cnfd {version}</h1>
<ul>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/healthz">/healthz</a>: the process lives</li>
<li><a href="/readyz">/readyz</a>: the program is attached, and the latest drain is fresh</li>
</ul>
</body></html>
"""


def application(state: State, registry: CollectorRegistry) -> WSGIApplication:
    """Return the WSGI application."""
    metrics = cast("WSGIApplication", make_wsgi_app(registry))

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return reply(start_response, "405 Method Not Allowed", "only GET is answered\n", "text/plain")
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        status, body, kind = _page(state, path)
        return reply(start_response, status, body, kind)

    return answer


def _page(state: State, path: str) -> tuple[str, str, str]:
    """Return status line, body and content type."""
    match path:
        case "/":
            return "200 OK", PAGE.format(version=__version__), "text/html; charset=utf-8"
        case "/healthz":
            return "200 OK", "ok\n", "text/plain"
        case "/readyz":
            reason = state.not_ready()
            return (
                ("503 Service Unavailable", f"{reason}\n", "text/plain")
                if reason
                else ("200 OK", "ready\n", "text/plain")
            )
        case _:
            return "404 Not Found", "there are /metrics, /healthz and /readyz\n", "text/plain"
