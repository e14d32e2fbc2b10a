"""Cgroups (version 2) by their IDs, and the systemd unit, container or pod that a cgroup's path names."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
REST: Final = 5.0
"""Seconds between two looks for new cgroups: a look at a thousand takes some 10 ms."""

_ENGINES: Final = {"libpod": "podman", "cri-containerd": "containerd", "crio": "cri-o"}
"""Container engines whose cgroups have another name."""
_SHOWN: Final = 12
"""Digits of a container's ID, as docker and crictl show it."""
_ID: Final = "[0-9a-f]{64}"
_SCOPE: Final = re.compile(rf"([a-z][a-z-]*)-({_ID})\.scope")
"""A container's cgroup as systemd makes it."""
_IN_SERVICE: Final = re.compile(rf"[^:]+:([a-z][a-z-]*):({_ID})")
"""The same of an engine that was told to use systemd's form without systemd."""
_FOLDER: Final = re.compile(_ID)
_POD: Final = re.compile(
    r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::.*)?"
)
"""A pod's cgroup; that of a static pod has a hash in the place of the UID."""
_UNIT: Final = re.compile(r".+\.(?:service|scope|socket|mount|swap)")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def owner(path: str) -> str:
    r"""Return the owner that a cgroup's path names: the innermost pod or container in it, else the unit, else the path.

    >>> owner("/system.slice/nginx.service")
    'nginx.service'
    >>> owner("/system.slice/docker-" + 64 * "a" + ".scope")
    'docker:aaaaaaaaaaaa'
    >>> owner("/kubepods/burstable/pod" + "0" * 32 + "/" + 64 * "a")
    'pod:00000000000000000000000000000000/aaaaaaaaaaaa'
    """
    parts = path.strip("/").split("/")
    pods = [found[1].replace("_", "-") for part in parts if (found := _POD.fullmatch(part))]
    containers = [container for place in range(len(parts)) if (container := _container(parts, place))]
    if pods:
        return f"pod:{pods[-1]}" + (f"/{containers[-1][1]}" if containers else "")
    if containers:
        return ":".join(containers[-1])
    units = [part for part in parts if _UNIT.fullmatch(part)]
    if units and units[0].startswith("user@"):
        return "/".join(units[:2])  # a user's own manager, and the unit that it runs
    return units[0] if units else path


def _container(parts: list[str], place: int) -> tuple[str, str] | None:
    """Return the engine and ID of a container whose cgroup's name stands in this place of a path."""
    if found := _SCOPE.fullmatch(parts[place]) or _IN_SERVICE.fullmatch(parts[place]):
        engine, number = found[1], found[2]
    elif place and _FOLDER.fullmatch(parts[place]):
        engine, number = parts[place - 1], parts[place]
    else:
        return None
    return (_ENGINES.get(engine, engine), number[:_SHOWN]) if not engine.endswith("conmon") else None


class Cgroups:
    """The paths of cgroups by ID, for any thread. A cgroup's ID is its folder's inode, and is never given again."""

    def __init__(self, mounts: Path = MOUNTS) -> None:
        """Look at no cgroup yet; ``mounts`` is what proc(5) says of mountinfo."""
        self._mounts = mounts
        self._paths: dict[int, str] = {}
        self._looked = -REST
        self._lock = threading.Lock()

    def path(self, number: int) -> str | None:
        """Return the path below the root of cgroups; None if the cgroup is gone, new for REST, or not to be seen."""
        with self._lock:
            if number not in self._paths and time.monotonic() - self._looked >= REST:
                self._paths = self._look()
                self._looked = time.monotonic()
            return self._paths.get(number)

    def _look(self) -> dict[int, str]:
        found = [each for top in self._tops() for each in _below(top)]
        # The longest path comes last, and stays: that from the node's root, not that from the root of a container.
        return dict(sorted(found, key=lambda each: len(each[1])))

    def _tops(self) -> Iterator[str]:
        """Yield where version 2 is mounted."""
        with suppress(OSError):
            for line in self._mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                mount, _, kind = line.partition(" - ")
                if kind.startswith("cgroup2 "):
                    yield _ESCAPE.sub(lambda found: chr(int(found[1], 8)), mount.split(" ")[4])


def _below(top: str) -> Iterator[tuple[int, str]]:
    """Yield the ID and path of each cgroup; one that goes meanwhile is left out."""
    folders = [""]
    while folders:
        path = folders.pop()
        with suppress(OSError):
            status = Path(top + path).stat()
            yield status.st_ino, path or "/"
            if status.st_nlink != 2:  # noqa: PLR2004 - there are folders: the many files of all others are not read
                with os.scandir(top + path) as entries:
                    folders += [f"{path}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False)]
