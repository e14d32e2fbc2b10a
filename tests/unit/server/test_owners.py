"""Owners are looked for of so many flows, and no more."""

from __future__ import annotations

import pytest

from cnf.errors import UsageError
from cnf.flows.query import select
from cnf.kernel.cgroups import Cgroups
from cnf.server import owners
from tests.unit.samples import Flow, snapshot


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of everything says how many it may have, before the first line."""
    monkeypatch.setattr(owners, "MOST", 2)
    drained = snapshot(*(Flow(src_port=port) for port in range(3)))
    with pytest.raises(UsageError, match="owners of 3 flows: expected at most 2, with top"):
        owners.with_owners(select(drained, "", "bytes", None), Cgroups())
    owners.with_owners(select(drained, "", "bytes", 2), Cgroups())
