"""The unit cnfd.service on a machine, as an administrator installs it and looks at it."""

from __future__ import annotations

import json
import time
from typing import Any, Final

from tests.net.wait import wait_for
from tests.system.machine import CHECKOUT, HOME, Machine

UNITS: Final = "/usr/local/lib/systemd/system"
UNIT_FILE: Final = f"{UNITS}/cnfd.service"
DETACH_UNIT_FILE: Final = f"{UNITS}/cnfd-detach.service"
USER_FILE: Final = "/usr/local/lib/sysusers.d/cnf.conf"
SOCKET_UNIT_FILE: Final = f"{UNITS}/cnfd.socket"
INSTALLED: Final = {
    "cnfd.service": UNIT_FILE,
    "cnfd-detach.service": DETACH_UNIT_FILE,
    "cnfd.socket": SOCKET_UNIT_FILE,
    "cnf.sysusers": USER_FILE,
}
"""Where files of the folder systemd go."""
DROP_IN: Final = "/run/systemd/system/cnfd.service.d/test.conf"
CONFIG: Final = "/etc/cnf/cnf.toml"
NODE, FAR = "192.0.2.1", "192.0.2.2"


class Service:
    """The service; nic0 and nic1 are its machine's interfaces, and in the namespace ``far`` is what they lead to."""

    def __init__(self, machine: Machine) -> None:
        """Set up the network around it, and install it."""
        self.machine, self.cnfctl_path = machine, f"{HOME}/current/.venv/bin/cnfctl"
        machine.run("chmod", "700", "/sys/fs/bpf")  # as systemd mounts it
        machine.run("ip", "netns", "add", "far")
        for name in ("nic0", "nic1"):
            machine.run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", "far")
            machine.run("ip", "link", "set", name, "up")
            machine.run("ip", "-n", "far", "link", "set", name, "up")
        machine.run("ip", "address", "add", f"{NODE}/24", "dev", "nic0")
        machine.run("ip", "-n", "far", "address", "add", f"{FAR}/24", "dev", "nic0")
        self.install()

    def install(self) -> None:
        """Put the unit and its user in place, and the checkout where deploy/install.sh has the current version."""
        self.machine.run("ln", "-sfn", ".", f"{HOME}/current")
        for name, path in INSTALLED.items():
            self.machine.run("install", "-D", "-m", "644", f"{HOME}/systemd/{name}", path)
        self.machine.run("systemd-sysusers", USER_FILE)
        self.reset()

    def remove(self) -> None:
        """Take away what ``install()`` and the tests have put in place."""
        self.machine.run(
            "rm", "-rf", *INSTALLED.values(), f"{HOME}/current", "/etc/cnf", "/var/lib/cnf", "/var/cache/cnf"
        )
        self.machine.run("userdel", "cnf")
        self.machine.run("systemctl", "daemon-reload")

    def reset(self) -> None:
        """Stop it, and put everything back to how it was installed, with the example configuration for nic0."""
        self.machine.run("systemctl", "stop", "cnfd.socket", "cnfd")
        self.machine.run("rm", "-f", DROP_IN)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "reset-failed")
        self.configure(self.example("nic0"))
        self._since = time.time()

    def example(self, interface: str) -> str:
        """Return the example configuration with another interface in it, which is a veth, and native XDP on it."""
        text = (CHECKOUT / "deploy/cnf.toml").read_text(encoding="utf-8")
        assert (text.count('"eth0"'), text.count('mode = "auto"')) == (1, 1)
        return text.replace('"eth0"', f'"{interface}"').replace('mode = "auto"', 'mode = "native"')

    def configure(self, text: str) -> None:
        """Write the configuration."""
        self.machine.write(CONFIG, text)
        self.machine.run("chmod", "644", CONFIG)

    def override(self, option: str) -> None:
        """Give the unit another option, as ``systemctl edit`` does."""
        self.machine.write(DROP_IN, f"[Service]\n{option}\n")
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        """Start it; this returns when it is ready."""
        self.machine.run("systemctl", "start", "cnfd")

    def show(self, name: str) -> str:
        """Return one of the unit's properties."""
        return self.machine.run("systemctl", "show", "cnfd", "--value", "-p", name).strip()

    def signal(self, name: str) -> None:
        """Send its main process a signal."""
        self.machine.run("systemctl", "kill", "--kill-who=main", f"--signal={name}", "cnfd")

    def wait_for_restart(self) -> None:
        """Wait until systemd has started it a second time, and it is ready."""
        wait_for(lambda: (self.show("NRestarts"), self.show("ActiveState")) == ("1", "active"), "a restart", 30)

    def journal(self, *options: str) -> list[str]:
        """Return what it has written to the journal since the last reset; ``options`` are journalctl's."""
        self.machine.run("journalctl", "--sync")
        since = f"--since=@{self._since:.6f}"
        written = self.machine.run("journalctl", "-q", "-o", "cat", since, *options, "_SYSTEMD_UNIT=cnfd.service")
        return written.splitlines()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the journal's entries of one event."""
        entries = (json.loads(line) for line in self.journal() if line.startswith("{"))
        return [entry for entry in entries if entry["event"] == event]

    def program(self, interface: str) -> int | None:
        """Return the id of the XDP program on an interface."""
        (link,) = json.loads(self.machine.run("ip", "-j", "link", "show", "dev", interface))
        return int(link["xdp"]["prog"]["id"]) if "xdp" in link else None

    def cnfctl(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Return what cnfctl answers, asked by root on the default socket."""
        return json.loads(self.machine.run(self.cnfctl_path, *arguments, "-o", "json"))

    def metrics(self) -> str:
        """Return a scrape."""
        script = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9995/metrics').read().decode())"
        return self.machine.run("python3", "-c", script)
