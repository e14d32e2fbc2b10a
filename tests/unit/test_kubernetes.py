"""deploy/kubernetes/cnf.yaml: what it gives the daemon is what the daemon needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from cnf import config
from cnf.cli import DEFAULT_SOCKET
from cnf.datapath import program_file
from cnf.limits.table import Limits

ROOT: Final = Path(__file__).parents[2]
MANIFEST: Final[dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((ROOT / "deploy/kubernetes/cnf.yaml").read_text(encoding="utf-8"))
}
POD: Final = MANIFEST["DaemonSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_configuration() -> None:
    """The configuration is valid, leaves the program for the next pod, and has the metrics where the probes look."""
    settings = config.parse(MANIFEST["ConfigMap"]["data"]["cnf.toml"], "cnf.yaml")
    assert settings.on_exit == "keep"
    assert [port["containerPort"] for port in CONTAINER["ports"]] == [settings.metrics.port]


def test_capabilities() -> None:
    """The container has the capabilities of the unit file, and no others."""
    unit = (ROOT / "systemd/cnfd.service").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"^AmbientCapabilities=(.*)", unit, re.MULTILINE)
    capabilities = CONTAINER["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in capabilities["add"]] == wanted.split()


def test_places() -> None:
    """Each place that the daemon writes to is mounted, and bpffs is the node's."""
    mounted = {each["mountPath"]: each["name"] for each in CONTAINER["volumeMounts"] if not each.get("readOnly")}
    state, socket = Path(Limits().state_file).parent, Path(DEFAULT_SOCKET).parent
    assert set(mounted) == {"/sys/fs/bpf", "/tmp", str(program_file.DEFAULT), str(state), str(socket)}  # noqa: S108 - the compiler's
    volumes = {each["name"]: each for each in POD["volumes"]}
    assert volumes[mounted["/sys/fs/bpf"]]["hostPath"]["path"] == "/sys/fs/bpf"
    assert POD["hostNetwork"] is True
