"""deploy/kubernetes/cnf.yaml: what it gives the daemon is what the daemon needs."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes_validate.utils import ValidationError, all_versions, validate

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


@pytest.mark.parametrize("version", [all_versions()[0], all_versions()[-1]])
@pytest.mark.parametrize("kind", MANIFEST)
def test_schema(kind: str, version: str) -> None:
    """Each object is what the API server takes, of the oldest and of the newest Kubernetes, and has no unknown key."""
    validate(MANIFEST[kind], version, strict=True)


def test_a_mistake_shows() -> None:
    """A key that is written wrong, as kubectl would refuse it, is found."""
    daemon_set = copy.deepcopy(MANIFEST["DaemonSet"])
    daemon_set["spec"]["template"]["spec"]["hostNetwrok"] = True
    with pytest.raises(ValidationError, match="hostNetwrok"):
        validate(daemon_set, all_versions()[-1], strict=True)


def test_names_agree() -> None:
    """Each object is in the namespace, and each mount has its volume, and each volume its mount."""
    assert {MANIFEST[kind]["metadata"]["namespace"] for kind in ("ConfigMap", "DaemonSet")} == {"cnf"}
    assert MANIFEST["Namespace"]["metadata"]["name"] == "cnf"
    volumes = {each["name"]: each for each in POD["volumes"]}
    assert volumes.keys() == {each["name"] for each in CONTAINER["volumeMounts"]}
    assert volumes["config"]["configMap"]["name"] == MANIFEST["ConfigMap"]["metadata"]["name"]
    spec = MANIFEST["DaemonSet"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    ports = {each["name"] for each in CONTAINER["ports"]}
    assert {CONTAINER[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")} == ports


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
