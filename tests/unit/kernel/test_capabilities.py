"""What is said of a capability that is missing, to each who may read it; tests/bpf has the dropping of them."""

from __future__ import annotations

import os

import pytest

from cnf.kernel import capabilities

NAMES = ("CAP_NET_ADMIN", "CAP_BPF")


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no unit started these tests."""
    monkeypatch.delenv("SYSTEMD_EXEC_PID", raising=False)


def test_a_plain_user_has_to_be_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who is not root is told to be, and nothing of services or containers."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert capabilities.remedy(NAMES) == "run as root"


def test_root_is_in_a_container_or_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root is not told to be root, but by what it may be bounded."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert capabilities.remedy(NAMES) == (
        "root is bounded here: give the container --cap-add=NET_ADMIN --cap-add=BPF,"
        " or the unit CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF"
    )


@pytest.mark.parametrize("user", [0, 1000])
def test_a_service_has_its_unit(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    """What a unit has started is told the unit's options, whoever runs it; not so a command from within a session."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    wanted = "AmbientCapabilities=CAP_PERFMON; CapabilityBoundingSet=CAP_PERFMON"
    assert capabilities.remedy(capabilities.SPEED) == f"systemctl edit cnfd: [Service] {wanted}"
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))
    assert "systemctl" not in capabilities.remedy(capabilities.SPEED)


def test_the_sentence_names_all_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing capability is named, with the remedy at the end."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert str(capabilities.lacking(NAMES)) == (
        "CAP_NET_ADMIN and CAP_BPF missing: no program can be loaded and attached (run as root)"
    )
