"""A real Prometheus server in a namespace: it scrapes a daemon, and is asked by its HTTP API."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

from tests.net.namespaces import Namespace
from tests.net.wait import PATIENCE, wait_for

PROGRAM: Final = Path(sys.executable).with_name("prometheus")
"""Put there by deploy/setup.sh --dev."""
ADDRESS: Final = ("127.0.0.1", 9090)
CONFIGURATION: Final = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files:
  - {rules}
scrape_configs:
  - job_name: cnf
    static_configs:
      - targets: ["{target}"]
{options}
"""


class Prometheus:
    """One server; what it has read goes with ``folder``."""

    def __init__(self, namespace: Namespace, folder: Path, target: str, rules: str, options: str = "") -> None:
        """Start it; ``target`` is whom it scrapes, with ``options`` in YAML, ``rules`` a pattern of files."""
        self._namespace = namespace
        configuration = folder / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=target, rules=rules, options=options), encoding="utf-8")
        self._process = subprocess.Popen(
            (
                *namespace.enter,
                PROGRAM,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={ADDRESS[0]}:{ADDRESS[1]}",
                "--log.level=error",
            )
        )

    def __enter__(self) -> Self:
        """Wait until it answers."""
        try:
            wait_for(self._is_ready, "Prometheus to be ready")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of an answer of the API."""
        status, body = self._get(f"/api/v1/{path}?{urlencode(parameters)}")
        assert status == http.HTTPStatus.OK, body
        return json.loads(body)["data"]

    def query(self, expression: str) -> dict[str, float]:
        """Return the values that an expression has now, by their labels."""
        result = self.ask("query", query=expression)["result"]
        return {json.dumps(sample["metric"], sort_keys=True): float(sample["value"][1]) for sample in result}

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "Prometheus has ended"
        try:
            return self._get("/-/ready")[0] == http.HTTPStatus.OK
        except ConnectionRefusedError:
            return False

    def _get(self, path: str) -> tuple[int, bytes]:
        client = http.client.HTTPConnection("localhost")
        with self._namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client.sock:
            client.sock.settimeout(PATIENCE)
            client.sock.connect(ADDRESS)
            client.request("GET", path, headers={"Connection": "close"})
            with client.getresponse() as answer:
                return answer.status, answer.read()
