"""A stand-in for cnfd: real HTTP on a real Unix socket, with answers that a test chooses."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Answer:
    """One reply; ``promised`` is a Content-Length that is not the body's."""

    body: bytes
    status: int = 200
    promised: int | None = None


class StandIn:
    """The answers, and the questions that came."""

    def __init__(self, socket: Path) -> None:
        """Prepare to listen on ``socket``."""
        self.socket = socket
        self.asked: queue.SimpleQueue[tuple[str, dict[str, str]]] = queue.SimpleQueue()
        self.posted: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._answers: dict[tuple[str, str], Answer] = {}

    def say(self, path: str, document: object, *, status: int = 200) -> None:
        """Answer ``path`` with a JSON document from now on."""
        self.answer(path, Answer(json.dumps(document).encode(), status))

    def say_to_post(self, path: str, document: object, *, status: int = 200) -> None:
        """Answer what is posted to ``path`` with a JSON document from now on."""
        self.answer(path, Answer(json.dumps(document).encode(), status), "POST")

    def answer(self, path: str, answer: Answer, output: str = "json") -> None:
        """Answer ``path``, asked in the format ``output`` (or "POST"), with ``answer`` from now on."""
        self._answers[path, output] = answer

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Serve in a thread until the block ends, which also removes the socket."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = dict(parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape"))
                stand_in.asked.put((url.path, query))
                self.reply(stand_in._answers[url.path, query.get("format", "json")])

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stand_in.posted.put((self.path, json.loads(body)))
                self.reply(stand_in._answers[self.path, "POST"])

            def reply(self, answer: Answer) -> None:
                length = len(answer.body) if answer.promised is None else answer.promised
                self.send_response(answer.status)
                self.send_header("Content-Length", str(length))
                self.send_header("Connection", "close")
                self.end_headers()
                with suppress(BrokenPipeError):  # the client has seen enough
                    self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        with socketserver.ThreadingUnixStreamServer(str(self.socket), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
                self.socket.unlink()
