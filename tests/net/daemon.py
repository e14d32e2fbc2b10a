"""The real cnfd as a process in a namespace: started from a configuration, read by its log, sockets and commands."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Any, Final, NamedTuple, Self, TypeGuard

import pytest

import cnf
from tests.net.exposition import Exposition
from tests.net.namespaces import Namespace
from tests.net.wait import PATIENCE, wait_for

METRICS: Final = ("127.0.0.1", 9995)
CNFD: Final = (sys.executable, "-P", "-m", "cnf.cnfd")
CNFCTL: Final = (sys.executable, "-P", "-m", "cnf.cli")
NOT_OVER_SSH: Final = {"SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535"}
"""Keeps cnfctl from looking for where these tests are run from; sshd sets it to this where it does not know."""


class Answer(NamedTuple):
    """An HTTP status and body."""

    status: int
    body: bytes


class Daemon:
    """One cnfd, and its configuration."""

    def __init__(self, namespace: Namespace, folder: Path, *interfaces: str, **tables: Mapping[str, object]) -> None:
        """Write a configuration into ``folder``: ``interfaces`` by name, and ``tables`` over what suits a test."""
        self.namespace = namespace
        self.config = folder / "cnf.toml"
        self.socket = folder / "cnf.sock"
        self.log = folder / "log"
        self.state_file = folder / "state" / "limits.json"
        self.history = folder / "history"
        self.command: Sequence[str] = CNFD
        self.environment: dict[str, str] = {}
        self.passed: Sequence[int] = ()
        """Descriptors that it inherits."""
        self.process: subprocess.Popen[bytes] | None = None
        self.configure([{"name": name} for name in interfaces], **tables)

    def close(self) -> None:
        """End what is left of it."""
        if self.process is None or not self.is_running():
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"cnfd did not end within {PATIENCE:g} s of SIGTERM")

    def configure(self, interfaces: Sequence[Mapping[str, object]], **tables: Mapping[str, object]) -> None:
        """Write the configuration anew; an interface is at native XDP, and ingress alone, unless it says otherwise."""
        interfaces = [{"mode": "native", "directions": ["ingress"], **interface} for interface in interfaces]
        document: dict[str, dict[str, object]] = {
            "flows": {"drain_interval": "200ms", "max_entries": 4096},
            "control": {"socket": str(self.socket)},
            "log": {"level": "debug", "format": "json"},
            "history": {"folder": str(self.history)},
        }
        if "limits" in tables:
            document["limits"] = {"state_file": str(self.state_file)}
        for table, settings in tables.items():
            document.setdefault(table, {}).update(settings)
        self.config.write_text(_toml(interfaces, document), encoding="utf-8")

    def keep_programs_in(self, folder: Path) -> Self:
        """Have it keep its program in this folder, and not where the other daemons of the run do."""
        self.environment["CACHE_DIRECTORY"] = str(folder)
        return self

    def remove_bcc(self, folder: Path) -> Self:
        """Have it find no BCC, as where the package was removed; ``folder`` is for what it takes."""
        (folder / "sitecustomize.py").write_text("import sys\nsys.modules['bcc'] = None\n", encoding="utf-8")
        self.environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(Path(cnf.__file__).parents[1])))
        return self

    def launch(self, *arguments: str, stderr: int | None = None) -> Self:
        """Start the process; its log goes to the file ``log`` unless there is another descriptor for it."""
        environment = os.environ | {"NOTIFY_SOCKET": "", "SSH_CONNECTION": ""} | self.environment
        command = (*self.namespace.enter, *self.command, *(arguments or ("--config", str(self.config))))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                env=environment,
                pass_fds=self.passed,
            )
        return self

    def start(self) -> Self:
        """Start, and return when it is ready."""
        self.launch().wait_for_event("ready")
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    def compiler(self) -> int | None:
        """Return the process id of its compiler; None if there is none."""
        for children in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in children.read_text(encoding="ascii").split():
                if b"cnf.datapath.compile" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        return None

    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Have it end in good order."""
        self.signal(Signals.SIGTERM)
        assert self.ended() == 0

    def reload(self, interfaces: Sequence[Mapping[str, object]], **tables: Mapping[str, object]) -> None:
        """Write the configuration anew, and have it read."""
        self.configure(interfaces, **tables)
        reloads = len(self.events("reloaded"))
        self.signal(Signals.SIGHUP)
        self.wait_for_event("reloaded", reloads + 1)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Wait for the process to end and return its exit status."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"cnfd has not ended within {seconds:g} s")

    def refused(self) -> tuple[int, str]:
        """Start what must not start; return the exit status and the one line that says why."""
        status = self.launch().ended(PATIENCE)
        (line,) = (line for line in self.log_lines() if not line.startswith("{"))
        assert line.startswith("cnfd: ")
        return status, line

    def log_lines(self) -> list[str]:
        """Return the whole lines of the log."""
        text = self.log.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log's entries of one event."""
        entries = (json.loads(line) for line in self.log_lines() if line.startswith("{"))
        return [entry for entry in entries if entry["event"] == event]

    def wait_for_event(self, event: str, count: int = 1) -> dict[str, Any]:
        """Return the ``count``-th entry of ``event`` when it is there; fail the test if the process ends before."""

        def found() -> list[dict[str, Any]]:
            running = self.is_running()
            entries = self.events(event)
            if len(entries) < count and not running:
                pytest.fail("cnfd has ended:\n" + "\n".join(self.log_lines()))
            return entries[count - 1 :]

        return wait_for(found, f"{count} of the event {event!r}")[0]

    def drain(self) -> None:
        """Wait until a drain that began after this call has been published."""
        self.wait_for_event("drained", len(self.events("drained")) + 2)

    def settle(self, packets: int) -> dict[str, Any]:
        """Wait until so many packets stand in the ledger, and return the status of a later drain."""
        wait_for(lambda: self.status()["ledger"]["packets"]["received"] >= packets, f"{packets} packets in the ledger")
        self.drain()
        return self.status()

    def scrape(self) -> Exposition:
        """Return the metrics."""
        answer = self.http("/metrics")
        assert answer.status == http.HTTPStatus.OK
        return Exposition(answer.body)

    def http(self, path: str) -> Answer:
        """Ask the metrics server."""
        return _ask(self.connect_metrics(), path)

    def connect_metrics(self) -> socket.socket:
        """Return a connection to the metrics server."""
        connection = self.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        return _connected(connection, METRICS)

    def control(self, path: str, *, method: str = "GET", body: bytes | None = None) -> Answer:
        """Ask the control socket."""
        return _ask(self.connect_control(), path, method, body)

    def connect_control(self) -> socket.socket:
        """Return a connection to the control socket."""
        return _connected(socket.socket(socket.AF_UNIX), str(self.socket))

    def status(self) -> dict[str, Any]:
        """Return what ``cnfctl status -o json`` asks for."""
        answer = self.control("/v1/status")
        assert answer.status == http.HTTPStatus.OK, answer
        status: dict[str, Any] = json.loads(answer.body)
        return status

    def interfaces(self) -> dict[str, dict[str, Any]]:
        """Return the status' interfaces by name."""
        return {interface["name"]: interface for interface in self.status()["interfaces"]}

    def attached(self, *names: str) -> None:
        """Wait until the status shows exactly ``names`` attached."""

        def done() -> bool:
            return {name for name, shown in self.interfaces().items() if shown["state"] == "attached"} == {*names}

        wait_for(done, f"the program on {', '.join(names) or 'nothing'}")

    def ctl(
        self, *arguments: str, command: Sequence[str] = CNFCTL, environment: Mapping[str, str] = NOT_OVER_SSH
    ) -> subprocess.CompletedProcess[str]:
        """Run cnfctl."""
        whole = (*command, "--socket", str(self.socket), *arguments)
        return subprocess.run(
            whole, capture_output=True, text=True, check=False, timeout=PATIENCE, env=os.environ | environment
        )

    def flows(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the flows of ``cnfctl flows -o json``."""
        flows: list[dict[str, Any]] = json.loads(self._json("flows", *arguments))
        return flows

    def limits(self, *arguments: str, environment: Mapping[str, str] = NOT_OVER_SSH) -> dict[str, Any]:
        """Return what ``cnfctl limits ... -o json`` says: the limits in force, or what a change has changed."""
        limits: dict[str, Any] = json.loads(self._json("limits", *arguments, environment=environment))
        return limits

    def limited_sources(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the sources of ``cnfctl limits sources -o json``."""
        sources: list[dict[str, Any]] = json.loads(self._json("limits", "sources", *arguments))
        return sources

    def _json(self, *arguments: str, environment: Mapping[str, str] = NOT_OVER_SSH) -> str:
        done = self.ctl(*arguments, "-o", "json", environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _ask(connection: socket.socket, path: str, method: str = "GET", body: bytes | None = None) -> Answer:
    client = http.client.HTTPConnection("localhost")
    client.sock = connection
    with connection:
        client.request(method, path, body, headers={"Connection": "close"})
        with client.getresponse() as response:
            return Answer(response.status, response.read())


def _connected(connection: socket.socket, address: tuple[str, int] | str) -> socket.socket:
    connection.settimeout(PATIENCE)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _toml(interfaces: Sequence[Mapping[str, object]], tables: Mapping[str, Mapping[str, object]]) -> str:
    headed: list[tuple[str, Mapping[str, object]]] = [("[[interfaces]]", table) for table in interfaces]
    for name, table in tables.items():
        inner = {key: value for key, value in table.items() if _is_array_of_tables(value)}
        headed.append((f"[{name}]", {key: value for key, value in table.items() if key not in inner}))
        headed += [(f"[[{name}.{key}]]", item) for key, items in inner.items() for item in items]
    lines = []
    for heading, table in headed:
        lines.append(heading)
        # JSON's strings, numbers, arrays, true and false are TOML's.
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _is_array_of_tables(value: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
