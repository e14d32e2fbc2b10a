"""What ends a build before it has begun, and what tells one from another."""

from __future__ import annotations

import pytest

from cnf.datapath.blueprint import Blueprint
from cnf.datapath.build import Build
from cnf.errors import PrivilegeError
from cnf.kernel import capabilities


def test_a_missing_capability_is_named_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not load is told what is missing, and how to get it."""
    monkeypatch.setattr(capabilities, "missing", lambda: ("CAP_BPF",))

    with pytest.raises(PrivilegeError, match=r"CAP_BPF missing: no program can be loaded"):
        Build(Blueprint(1024), python="/nonexistent")
