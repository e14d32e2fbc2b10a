"""Each record is a line of the file, once, or is counted as lost, whatever becomes of the disk."""

from __future__ import annotations

import json
import math
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog

from cnf import config
from cnf.config import Settings
from cnf.export import json_file
from cnf.export.json_file import JsonFile
from cnf.export.lines import Lines
from cnf.recording import Export, JsonLines
from tests.unit.record_batches import batch, many
from tests.unit.samples import CLOCK, Flow

PATIENCE = 20.0


def settings(file: Path | str, **options: Any) -> Settings:  # noqa: ANN401 - whatever an option holds
    """Return settings with this file."""
    export = Export(json=JsonLines(file=str(file), **options))
    return attrs.evolve(config.for_interfaces(["eth0"]), export=export)


class Log:
    """The log lines of a sink, which a thread writes."""

    def __init__(self) -> None:
        """Have none."""
        self.lines: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()

    def error(self, event: str, **context: Any) -> None:  # noqa: ANN401 - whatever is logged
        """Take a line."""
        self.lines.put((event, context))

    info = warning = error

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next line."""
        return self.lines.get(timeout=PATIENCE)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Have the sinks log here, and try again soon."""
    lines = Log()
    monkeypatch.setattr(structlog, "get_logger", lambda: lines)
    monkeypatch.setattr(json_file, "RETRY", 0.02)
    yield lines
    assert lines.lines.empty()


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once something has come about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def numbers(*paths: Path) -> list[int]:
    """Return the numbers of the records in files."""
    return [json.loads(line)["seq"] for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_are_written(tmp_path: Path, log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """All of them, in their order, and counted; the end waits for them."""
    path = tmp_path / "records.jsonl"
    sink = JsonFile(settings(path))
    for first, count in ((1, 1000), (1001, 0), (1001, 3)):
        sink.put(many(first, count))
    sink.close()
    assert numbers(path) == [*range(1, 1004)]
    assert (sink.counters.records, sink.counters.bytes, sink.counters.lost) == (1003, path.stat().st_size, 0)


def test_only_what_matches_is_written(tmp_path: Path, log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """The filter is that of cnfctl flows."""
    path = tmp_path / "records.jsonl"
    sink = JsonFile(settings(path, filter="port 53", active_timeout=7.0))
    assert sink.active(CLOCK) == 7
    sink.put(batch(1, Flow(), Flow(dst_port=53), Flow()))
    sink.close()
    assert (numbers(path), sink.counters.records, sink.counters.lost) == ([2], 1, 0)


def test_without_a_file(log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """Nothing is asked for, kept or lost, and there is no thread."""
    sink = JsonFile(settings(""))
    sink.put(many(1, 10))
    assert (sink.active(CLOCK), sink.counters.lost) == (math.inf, 0)
    sink.close()


def test_a_reload_opens_it_anew(tmp_path: Path, log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """A file that was moved gets what came before, and the new one what comes."""
    path, moved = tmp_path / "records.jsonl", tmp_path / "moved"
    sink = JsonFile(settings(path))
    sink.put(many(1, 5))
    wait_for(lambda: sink.counters.records == 5)
    path.rename(moved)
    sink.apply(settings(path))
    wait_for(path.exists)
    sink.put(many(6, 5))
    sink.close()
    assert (numbers(moved), numbers(path)) == ([*range(1, 6)], [*range(6, 11)])


def test_a_reload_begins_and_ends(tmp_path: Path, log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """A file that comes, changes or goes costs no record that was put before."""
    first, second = tmp_path / "first", tmp_path / "second"
    sink = JsonFile(settings(""))
    sink.put(many(1, 5))
    sink.apply(settings(first))
    sink.put(many(6, 5))
    sink.apply(settings(second))
    sink.put(many(11, 500))
    sink.apply(settings(""))
    sink.put(many(511, 5))
    sink.close()
    written = [path for path in (first, second) if path.exists()]
    assert numbers(*written) == [*range(6, 511)]
    assert (sink.counters.records, sink.counters.lost) == (505, 0)


def test_it_is_rotated(tmp_path: Path, log: Log) -> None:  # noqa: ARG001 - it checks that there is no line
    """Between two blocks of lines, the file is renamed, and nothing is lost."""
    path = tmp_path / "records.jsonl"
    records = many(1, 800)
    most = len(Lines("").of(records, 1, 601))
    sink = JsonFile(settings(path, max_bytes=most))
    sink.put(records)
    sink.close()
    assert numbers(path.with_name("records.jsonl.1"), path) == [*range(1, 801)]
    assert path.stat().st_size < path.with_name("records.jsonl.1").stat().st_size < most


@pytest.mark.parametrize(
    ("below", "reason", "remedy"),
    [
        ("missing", "no_folder", "install -d -o cnf {0}; systemctl edit cnfd: [Service] ReadWritePaths={0}"),
        ("file", "no_folder", "ReadWritePaths="),
        ("", "other", "it is tried again"),
    ],
)
def test_a_file_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, log: Log, below: str, reason: str, remedy: str
) -> None:
    """The log says so once, with the remedy; what waits is written once that is done, and nothing is lost."""
    (tmp_path / "file").touch()
    (tmp_path / "records.jsonl").mkdir()
    path = tmp_path / below / "records.jsonl"
    sink = JsonFile(settings(path))
    event, context = log.next()
    assert (event, context["file"]) == ("flow records not written", str(path))
    assert remedy.format(path.parent) in context["remedy"]
    sink.put(many(1, 300))
    wait_for(lambda: sink.counters.errors[reason] >= 3)
    assert {name for name, count in sink.counters.errors.items() if count} == {reason}
    if path.parent == tmp_path:
        path.rmdir()
    else:
        (tmp_path / "file").unlink()
        path.parent.mkdir()
    assert log.next() == ("flow records written again", {"file": str(path)})
    sink.close()
    assert (numbers(path), sink.counters.records, sink.counters.lost) == ([*range(1, 301)], 300, 0)


def test_a_reload_mends_a_wrong_path(tmp_path: Path, log: Log) -> None:
    """What waits goes to the file that is named now."""
    path = tmp_path / "records.jsonl"
    sink = JsonFile(settings(tmp_path / "missing" / "records.jsonl"))
    sink.put(many(1, 300))
    assert log.next()[0] == "flow records not written"
    sink.apply(settings(path))
    assert log.next() == ("flow records written again", {"file": str(path)})
    sink.close()
    assert (numbers(path), sink.counters.lost) == ([*range(1, 301)], 0)


def test_a_reload_that_mends_a_path_is_not_undone_by_one_before(tmp_path: Path, log: Log) -> None:
    """Where several reloads wait behind records that cannot be written, the latest counts, and later ones are used."""
    mended, later = tmp_path / "mended", tmp_path / "later"
    sink = JsonFile(settings(tmp_path / "missing" / "records.jsonl"))
    assert log.next()[0] == "flow records not written"
    sink.put(many(1, 300))
    for number in range(3):
        sink.apply(settings(tmp_path / f"missing{number}" / "records.jsonl"))
        sink.put(many(301 + 10 * number, 10))
    sink.apply(settings(mended))
    assert log.next() == ("flow records written again", {"file": str(mended)})
    sink.put(many(331, 10))
    sink.apply(settings(later))
    sink.put(many(341, 10))
    sink.close()
    assert (numbers(mended), numbers(later)) == ([*range(1, 341)], [*range(341, 351)])
    assert (sink.counters.records, sink.counters.lost, sink.counters.waiting) == (350, 0, 0)


def test_what_waits_is_bounded(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what comes while too much waits, what matches is lost, and counted; the rest is written in the end."""
    monkeypatch.setattr(json_file, "MOST_WAITING", 100)
    path = tmp_path / "missing" / "records.jsonl"
    sink = JsonFile(settings(path, filter="port 53 or proto 0"))
    assert log.next()[0] == "flow records not written"
    sink.put(many(1, 150))
    sink.put(batch(151, Flow(dst_port=53), Flow(), Flow(dst_port=53)))
    assert log.next() == ("flow records lost", {"exporter": "json", "records": 2})
    path.parent.mkdir()
    assert log.next()[0] == "flow records written again"
    wait_for(lambda: sink.counters.records == 150)
    sink.put(many(154, 100))
    sink.close()
    assert numbers(path) == [*range(1, 151), *range(154, 254)]
    assert (sink.counters.records, sink.counters.lost) == (250, 2)


def test_a_defect_costs_the_records_of_one_drain(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody has foreseen is told, its records are counted as lost, and later ones are written."""
    real = Lines.of

    def once(*_: object) -> bytes:
        monkeypatch.setattr(Lines, "of", real)
        raise ZeroDivisionError

    monkeypatch.setattr(Lines, "of", once)
    path = tmp_path / "records.jsonl"
    sink = JsonFile(settings(path))
    sink.put(many(1, 300))
    sink.put(many(301, 10))
    sink.close()
    assert log.next() == ("exporter failed", {"exporter": "json", "error": "ZeroDivisionError()"})
    assert log.next() == ("flow records lost", {"exporter": "json", "records": 300})
    assert (numbers(path), sink.counters.lost, sink.counters.waiting) == ([*range(301, 311)], 300, 0)


@pytest.mark.parametrize("ended_by", ["close", "reload"])
def test_what_cannot_be_written_in_the_end_is_lost(tmp_path: Path, log: Log, ended_by: str) -> None:
    """An end, or a reload without a file, does not wait for a disk that fails, and what is lost is counted."""
    sink = JsonFile(settings(tmp_path / "missing" / "records.jsonl"))
    assert log.next()[0] == "flow records not written"
    sink.put(many(1, 700))
    sink.put(many(701, 7))
    wait_for(lambda: sink.counters.errors["no_folder"] >= 2)
    before = time.monotonic()
    if ended_by == "reload":
        sink.apply(settings(""))
        wait_for(lambda: sink.counters.lost == 707)
    sink.close()
    assert time.monotonic() - before < json_file.FAREWELL
    assert (sink.counters.records, sink.counters.lost) == (0, 707)
    assert [log.next()[1]["records"] for _ in range(2)] == [700, 7]
