"""A cgroup's ID leads to its path, and its path to the unit, container or pod that an operator knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnf.kernel import cgroups
from cnf.kernel.cgroups import Cgroups, owner

ID = "4f5e6a7b8c9d" + 52 * "0"
UID = "8d3c5f0e-1b2a-4c3d-9e8f-0123456789ab"
UNDERSCORES = UID.replace("-", "_")
BURSTABLE = f"kubepods-burstable-pod{UNDERSCORES}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice/ssh.socket", "ssh.socket"),
        ("/system.slice/cnfd.service/worker", "cnfd.service"),
        ("/init.scope", "init.scope"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
            "user@1000.service/syncthing.service",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service/init.scope"),
        (r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator", r"machine-qemu\x2d1\x2dvm.scope"),
        (f"/system.slice/docker-{ID}.scope", "docker:4f5e6a7b8c9d"),
        (f"/docker/{ID}", "docker:4f5e6a7b8c9d"),
        (f"/system.slice/docker-{ID}.scope/init.scope", "docker:4f5e6a7b8c9d"),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman:4f5e6a7b8c9d"),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            "podman:4f5e6a7b8c9d",
        ),
        (f"/machine.slice/libpod-conmon-{ID}.scope", f"libpod-conmon-{ID}.scope"),
        (f"/system.slice/web.service/libpod-payload-{ID}", "web.service"),
        (f"/system.slice/nerdctl-{ID}.scope", "nerdctl:4f5e6a7b8c9d"),
        (f"/default/{ID}", "default:4f5e6a7b8c9d"),
        (
            f"/kubepods.slice/kubepods-burstable.slice/{BURSTABLE}.slice/cri-containerd-{ID}.scope",
            f"pod:{UID}/4f5e6a7b8c9d",
        ),
        (f"/kubepods.slice/kubepods-pod{UNDERSCORES}.slice/crio-{ID}.scope", f"pod:{UID}/4f5e6a7b8c9d"),
        (f"/kubepods/besteffort/pod{UID}/{ID}", f"pod:{UID}/4f5e6a7b8c9d"),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{32 * 'a'}.slice", f"pod:{32 * 'a'}"),
        (
            f"/system.slice/containerd.service/{BURSTABLE}.slice:cri-containerd:{ID}",
            f"pod:{UID}/4f5e6a7b8c9d",
        ),
        (
            f"/docker/{ID}/kubelet.slice/kubelet-{BURSTABLE}.slice/cri-containerd-{ID}.scope",
            f"pod:{UID}/4f5e6a7b8c9d",
        ),
        ("/", "/"),
        ("/batch/job 7", "/batch/job 7"),
        ("/system.slice", "/system.slice"),
        ("/podium/x", "/podium/x"),
    ],
)
def test_owner(path: str, expected: str) -> None:
    """Paths as systemd, Docker, Podman, containerd, CRI-O and kubelets make them."""
    assert owner(path) == expected


def test_paths_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cgroup has its path from the outermost root there is, also one that was made later, and after a space."""
    top = tmp_path / "with space"
    unit = top / "system.slice/x.service"
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").write_text("", encoding="ascii")
    mounts = tmp_path / "mountinfo"
    escaped = str(top).replace(" ", r"\040")
    mounts.write_text(
        f"29 23 0:26 / {escaped}/system.slice rw - cgroup2 cgroup2 rw\n"
        f"30 23 0:26 / {escaped} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        "31 23 0:27 / /nowhere rw - tmpfs tmpfs rw\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(cgroups, "REST", 0.0)
    known = Cgroups(mounts)

    assert known.path(top.stat().st_ino) == "/"
    assert known.path(unit.stat().st_ino) == "/system.slice/x.service"
    assert known.path(1 << 60) is None
    (unit / "later").mkdir()
    assert known.path((unit / "later").stat().st_ino) == "/system.slice/x.service/later"


def test_a_cgroup_that_nobody_knows_is_not_looked_for_each_time(tmp_path: Path) -> None:
    """A thousand sockets of a cgroup that is gone are one look."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n", encoding="utf-8")
    known = Cgroups(mounts)
    assert known.path(1 << 60) is None
    (tmp_path / "new").mkdir()
    assert known.path((tmp_path / "new").stat().st_ino) is None


def test_no_cgroups(tmp_path: Path) -> None:
    """Where nothing is mounted, no path is known."""
    assert Cgroups(tmp_path / "mountinfo").path(1) is None
