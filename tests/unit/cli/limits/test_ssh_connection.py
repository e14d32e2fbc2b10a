"""Where the caller of a change comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnf.cli.limits.ssh_connection import ssh_connection

CLIENT = "192.0.2.7 51234 192.0.2.1 22"
ASK = "from cnf.cli.limits.ssh_connection import ssh_connection; print(ssh_connection())"


def test_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sshd has set is taken as it is."""
    monkeypatch.setenv("SSH_CONNECTION", CLIENT)
    assert ssh_connection() == CLIENT


def test_below_sudo(tmp_path: Path) -> None:
    """What sudo has taken out of the environment is found further up, past a process of whatever name."""
    odd = tmp_path / "a ) b"
    odd.symlink_to("/bin/bash")
    as_child = ["-c", '"$@"; exit', "bash"]
    without = ["env", "-u", "SSH_CONNECTION", str(odd), *as_child, sys.executable, "-c", ASK]
    environ = {**os.environ, "SSH_CONNECTION": CLIENT}
    found = subprocess.run(["bash", *as_child, *without], check=True, capture_output=True, text=True, env=environ)
    assert found.stdout == f"{CLIENT}\n"


def test_outside_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process on the way has it, or one may not be read, there is none."""
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"1 (a ) b) S 1 1" if path.name == "stat" else b"PATH=/bin\0")
    assert ssh_connection() is None

    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ssh_connection() is None
