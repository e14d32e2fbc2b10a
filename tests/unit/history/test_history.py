"""Promises of cnf.history.history: a block a minute of the wall clock, and nothing that holds a drain up."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from structlog.testing import capture_logs

from cnf.config import Settings, for_interfaces
from cnf.errors import MapError
from cnf.flows.stream import RecordBatch
from cnf.history import history as module
from cnf.history.block import Block
from cnf.history.history import History
from cnf.history.increase import sum_of
from cnf.history.writer import Writer
from cnf.recording import History as HistorySettings
from tests.unit.history.samples import MINUTE, SECOND, START, batch, packets_of, sums
from tests.unit.history.test_writer import blocks
from tests.unit.samples import Flow

STARTED = START / 1e9


def settings(folder: Path, **options: Any) -> Settings:  # noqa: ANN401 - any option
    """Return settings with a history in a folder."""
    return attrs.evolve(for_interfaces(["eth0"]), history=HistorySettings(folder=str(folder), **options))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """Return a history of new maps, which is closed in the end."""
    made = History(settings(tmp_path).history, STARTED, kept=False)
    yield made
    made.close()


def drain(history: History, now: int, packets: int, *flows: Flow, whole: bool = False) -> float:
    """Do what the daemon does at a drain; return how old records were allowed to be."""
    made: RecordBatch = replace(batch(now, *flows), received=sums(packets).interfaces, whole=whole)
    active = history.active(made.clock)
    history.put(made)
    return active


def written(history: History, folder: Path) -> list[Block]:
    """Return what has been written once all is."""
    history.close()
    return blocks(folder)


def test_a_block_ends_with_the_first_drain_of_another_minute(history: History, tmp_path: Path) -> None:
    """Flows that go on are recorded then, and at no other drain."""
    seconds = [5, 30, 58, 63, 90, 118, 123]
    active = [drain(history, START + second * SECOND, second) for second in seconds]
    assert active == [math.inf, math.inf, math.inf, 0, math.inf, math.inf, 0]
    found = written(history, tmp_path)
    assert [(block.begin, block.end) for block in found] == [
        (START, START + 63 * SECOND),
        (START + 63 * SECOND, START + 123 * SECOND),
    ]
    assert [packets_of(block.interfaces)["eth0"] for block in found] == [63, 60]


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_is_set_ends_a_block(history: History, step: int) -> None:
    """Whichever way the clock goes, the next drain is of another minute."""
    drain(history, START + 65 * SECOND, 1)
    assert drain(history, START + (70 + step) * SECOND, 2) == 0
    assert drain(history, START + (75 + step) * SECOND, 2) == math.inf


def test_the_last_drain_ends_a_block(history: History, tmp_path: Path) -> None:
    """At a stop, what there was since the latest block is written, too."""
    drain(history, START + 65 * SECOND, 1)
    drain(history, START + 70 * SECOND, 5, Flow(), whole=True)
    last = written(history, tmp_path)[-1]
    assert (packets_of(last.interfaces), last.end) == ({"eth0": 4}, START + 70 * SECOND)
    assert len(last.flows["ipv4"]) == 1


def test_with_maps_of_before_the_first_drain_ends_a_block(tmp_path: Path) -> None:
    """The next daemon, which gets the number of the maps, goes on where the latest block has ended."""
    first = History(settings(tmp_path).history, STARTED, kept=False)
    drain(first, START + 65 * SECOND, 1)
    first.close()
    second = History(settings(tmp_path).history, STARTED + 70, kept=True)
    second.take_over(first.hand_over())
    assert drain(second, START + 72 * SECOND, 4) == 0
    found = written(second, tmp_path)
    assert [packets_of(block.interfaces)["eth0"] for block in found] == [1, 3]
    assert found[1].begin == found[0].end


def test_without_the_number_of_the_maps_history_begins_anew(tmp_path: Path) -> None:
    """Where the handover cannot be read, nothing is counted twice."""
    first = History(settings(tmp_path).history, STARTED, kept=False)
    drain(first, START + 65 * SECOND, 100)
    first.close()
    second = History(settings(tmp_path).history, STARTED + 70, kept=True)
    second.take_over(None)
    drain(second, START + 72 * SECOND, 104)
    drain(second, START + 130 * SECOND, 107)
    assert [packets_of(block.interfaces)["eth0"] for block in written(second, tmp_path)] == [100, 3]


def test_a_hanging_disk_holds_no_drain_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a block is being written, drains go on; what waits is bounded, and in the end nothing is missing."""
    hangs, real = threading.Event(), Writer.take

    def hanging(writer: Writer, drained: Any) -> None:  # noqa: ANN401 - as take() has it
        assert hangs.wait(20)
        real(writer, drained)

    monkeypatch.setattr(Writer, "take", hanging)
    monkeypatch.setattr(module, "MOST", 10)
    history = History(settings(tmp_path).history, STARTED, kept=False)
    count = module.WAITING + 20
    for number in range(1, count + 1):
        drain(history, START + number * MINUTE, number, *(Flow(src_port=port) for port in range(20)))
    assert history.write_errors > 0
    hangs.set()
    history.close()
    there = blocks(tmp_path)
    assert there[0].complete  # the rest has said that records were left out
    assert not any(block.complete for block in there[2 : module.WAITING])
    history = History(settings(tmp_path).history, STARTED, kept=True)
    history.take_over({"maps": there[0].maps, "began": START})
    drain(history, START + (count + 1) * MINUTE, count + 1)
    assert packets_of(sum_of(block.interfaces for block in written(history, tmp_path))) == {"eth0": count + 1}


def test_a_disk_that_hangs_holds_the_end_up_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much waits, the daemon ends, and says that the latest minutes are not written."""
    hangs = threading.Event()
    monkeypatch.setattr(Writer, "take", lambda *_: hangs.wait(20))
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    history = History(settings(tmp_path).history, STARTED, kept=False)
    for number in range(1, module.WAITING + 3):
        drain(history, START + number * MINUTE, number)
    with capture_logs() as lines:
        history._log = structlog.get_logger()  # noqa: SLF001 - one that is captured
        history.close()
    hangs.set()
    monkeypatch.setattr(module, "PATIENCE", 20.0)
    history.close()  # the thread ends, so that it meets no other test
    (line,) = lines
    assert (line["event"], line["error"]) == ("history not written", f"{tmp_path}: not done within 0 s")


def test_rules_that_cannot_be_read_wait_for_the_next_drain(history: History, tmp_path: Path) -> None:
    """A block that the kernel's refusal holds up ends with a later drain, with all that was counted."""

    class Limiter:
        sources = None
        refused = True

        def counts(self) -> dict[str, Any]:
            if self.refused:
                raise MapError("map limit_rules: Bad file descriptor", errno=9)
            return {}

    limiter: Any = Limiter()
    history.limiter = limiter
    drain(history, START + 65 * SECOND, 1)
    limiter.refused = False
    assert drain(history, START + 70 * SECOND, 3) == 0
    (block,) = written(history, tmp_path)
    assert packets_of(block.interfaces) == {"eth0": 3}


def test_a_defect_costs_a_minute(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody has foreseen is counted, and the next block has what is missing."""
    real = Writer._write  # noqa: SLF001 - there is no other way to break it

    def once(*_: object) -> None:
        monkeypatch.setattr(Writer, "_write", real)
        raise ZeroDivisionError

    monkeypatch.setattr(Writer, "_write", once)
    drain(history, START + 65 * SECOND, 1)
    drain(history, START + 125 * SECOND, 3)
    assert [packets_of(block.interfaces) for block in written(history, tmp_path)] == [{"eth0": 3}]
    assert history.write_errors == 1


def test_without_keep_nothing_is_kept(tmp_path: Path) -> None:
    """No history asks for no record, and makes no folder; a reload may switch it on."""
    folder = tmp_path / "history"
    history = History(settings(folder, keep=0.0).history, STARTED, kept=True)
    assert drain(history, START + MINUTE, 5) == math.inf
    history.apply(settings(folder))
    assert drain(history, START + 2 * MINUTE, 7) == 0
    assert not folder.exists()
    assert drain(history, START + 3 * MINUTE, 8) == 0
    assert [packets_of(block.interfaces) for block in written(history, folder)] == [{"eth0": 1}]


def test_bytes_and_oldest_are_those_of_the_files(history: History, tmp_path: Path) -> None:
    """What metrics show is what there is."""
    assert (history.bytes, history.oldest, history.write_errors) == (0, None, 0)
    drain(history, START + 65 * SECOND, 1)
    history.close()
    assert history.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert history.oldest == STARTED
