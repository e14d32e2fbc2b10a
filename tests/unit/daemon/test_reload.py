"""What a reload cannot change stays as it is, and is named."""

from __future__ import annotations

import attrs
import pytest
from structlog.testing import CapturingLogger

from cnf import config
from cnf.config import Settings
from cnf.daemon.reload import keep_fixed
from cnf.limits.table import NO_TABLE, Limits
from cnf.recording import Export, History, Ipfix

CURRENT = Settings((config.Interface("eth0"),), limits=Limits(max_sources=1000))


def kept(
    wanted: Settings, current: Settings = CURRENT, *, limiter: bool = True, records: bool = True
) -> tuple[Settings, tuple[str, ...]]:
    """Return what comes of ``wanted``, and which keys were taken back; each is logged."""
    log = CapturingLogger()
    settings, taken_back = keep_fixed(wanted, current, log, limiter=limiter, records=records)
    assert tuple(call.kwargs["key"] for call in log.calls) == taken_back
    return settings, taken_back


def test_what_may_change_does() -> None:
    """Interfaces, timeouts and rules are those of the file; nothing is said."""
    limits = Limits(mode="enforce", max_sources=1000)
    wanted = Settings((config.Interface("ens*"),), flows=config.Flows(idle_timeout=7.0), limits=limits)
    assert kept(wanted) == (wanted, ())


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        (attrs.evolve(CURRENT, max_interfaces=64), "max_interfaces"),
        (attrs.evolve(CURRENT, flows=config.Flows(max_entries=64)), "flows.max_entries"),
        (attrs.evolve(CURRENT, metrics=config.Metrics(listen="127.0.0.1:1")), "metrics.listen"),
        (attrs.evolve(CURRENT, control=config.Control(group="netops")), "control.group"),
        (attrs.evolve(CURRENT, log=config.Log(format="json")), "log.format"),
        (attrs.evolve(CURRENT, limits=Limits(max_sources=64)), "limits.max_sources"),
    ],
)
def test_what_is_made_once_stays(wanted: Settings, key: str) -> None:
    """Maps, sockets and the log's form are made at the start."""
    assert kept(wanted) == (CURRENT, (key,))


def test_limits_without_a_limiter() -> None:
    """A program without the limiter cannot limit: the table waits for a restart. With it, only its sizes do."""
    without = attrs.evolve(CURRENT, limits=NO_TABLE)
    wanted = attrs.evolve(CURRENT, limits=Limits(mode="enforce", unreadable="drop"))
    assert kept(wanted, without, limiter=False) == (without, ("limits",))
    assert kept(CURRENT, without, limiter=False) == (CURRENT, ())
    assert kept(without) == (
        attrs.evolve(CURRENT, limits=Limits(mode="enforce", max_sources=1000)),
        ("limits.max_sources",),
    )


def test_records_without_what_they_take() -> None:
    """A program that was built without records gets none: no collector is added."""
    current = attrs.evolve(CURRENT, history=History(keep=0.0))
    wanted = attrs.evolve(current, export=Export((Ipfix("192.0.2.9:4739"),)))
    assert kept(wanted, current, records=False) == (current, ("export",))
    assert kept(wanted, current) == (wanted, ())
