"""Promises of cnf.process.log, kept on real descriptors: files, pipes, a terminal and /dev/full."""

import fcntl
import gc
import json
import logging
import mmap
import os
import select
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import structlog

from cnf.config import LogFormat, LogLevel
from cnf.process import log

EVENT: structlog.stdlib.BoundLogger = structlog.get_logger()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    """Open the file that the lines of a test go to."""
    with (tmp_path / "log").open("w+") as file:
        yield file


def lines(stream: TextIO) -> list[dict[str, Any]]:
    """Return the JSON lines written to ``stream``."""
    return [json.loads(line) for line in Path(stream.name).read_text().splitlines()]


def raise_(error: Exception) -> None:
    """Raise ``error`` from a frame of its own."""
    raise error


def test_json_lines_begin_with_timestamp_level_and_event(stream: TextIO) -> None:
    """A JSON line holds timestamp, level, event and the context, in this order; the time is UTC."""
    log.configure("info", "json", stream)
    EVENT.info("xdp attached", interface="eth0", prog_id=117)
    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "interface", "prog_id"]
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "xdp attached",
        "interface": "eth0",
        "prog_id": 117,
    }
    assert line["timestamp"].endswith("Z")


def test_auto_is_json_without_a_terminal(stream: TextIO) -> None:
    """Format auto writes JSON to what is no terminal."""
    log.configure("info", "auto", stream)
    EVENT.info("ready")
    assert lines(stream)[0]["event"] == "ready"


def test_auto_is_coloured_console_on_a_terminal() -> None:
    """Format auto writes coloured key=value text to a terminal."""
    controller, terminal = os.openpty()
    with os.fdopen(controller, "rb") as screen, os.fdopen(terminal, "w") as stream:
        log.configure("info", "auto", stream)
        EVENT.info("xdp attached", mode="native")
        shown = os.read(screen.fileno(), 4096).decode()
    assert "xdp attached" in shown
    assert "\x1b[" in shown


def test_console_has_no_colours_in_a_file(stream: TextIO) -> None:
    """Format console writes plain key=value text to what is no terminal."""
    log.configure("info", "console", stream)
    EVENT.info("xdp attached", interface="eth0", mode="native")
    text = Path(stream.name).read_text()
    assert text.endswith("interface=eth0 mode=native\n")
    assert "\x1b" not in text


def test_console_escapes_control_characters(stream: TextIO) -> None:
    """What an interface's name holds cannot steer the terminal or forge a second line."""
    log.configure("debug", "console", stream)
    try:
        raise_(ValueError("\x1b[2J"))
    except ValueError:
        EVENT.warning("link\x9b appeared\n", interface="q\x1b[31m\n\x7f\udcff", names=["\x1b"], exc_info=True)
    text = Path(stream.name).read_text()
    assert all(char.isprintable() or char == "\n" for char in text)
    assert r"q\x1b[31m\n\x7f" in text
    assert text.splitlines()[0].count("link") == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"eth\xff\xfe", "eth\\xff\\xfe"),
        ("eth\udcff", "eth\\udcff"),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.5), 0.5),
        (float("inf"), "inf"),
        (True, True),
        (None, None),
        (Path("/run/cnf"), "/run/cnf"),
        ({b"\xff": (1, b"\xfe")}, {"\\xff": [1, "\\xfe"]}),
        ('"\n', '"\n'),
    ],
    ids=repr,
)
@pytest.mark.parametrize("output", ["json", "console"])
def test_any_context_makes_a_line(stream: TextIO, output: LogFormat, value: object, shown: object) -> None:
    """Context of any type is written; JSON has it as the nearest of its own types."""
    log.configure("info", output, stream)
    before = log.lost_lines()
    EVENT.info("seen", value=value)
    assert log.lost_lines() == before
    if output == "json":
        assert lines(stream)[0]["value"] == shown


def test_context_does_not_overwrite_the_level(stream: TextIO) -> None:
    """A context key named as one of the first three keeps its value under a name of its own."""
    log.configure("info", "json", stream)
    EVENT.info("log level changed", level="debug")
    assert lines(stream)[0]["level"] == "info"
    assert lines(stream)[0]["level_"] == "debug"


def test_level_is_a_threshold_and_can_change(stream: TextIO) -> None:
    """Events below the level are left out, and set_level works at once, for loggers in use too."""
    log.configure("warning", "json", stream)
    bound = EVENT.bind(interface="eth0")
    bound.info("left out")
    bound.warning("first")
    log.set_level("debug")
    bound.debug("second")
    log.set_level("error")
    bound.warning("left out")
    assert [line["event"] for line in lines(stream)] == ["first", "second"]


@pytest.mark.parametrize(("level", "shown"), [("info", "OSError: disk on fire"), ("debug", "Traceback (most recent")])
def test_tracebacks_are_for_debug(stream: TextIO, level: LogLevel, shown: str) -> None:
    """An exception is one line of text; only at debug is it the whole traceback."""
    log.configure(level, "json", stream)
    try:
        raise_(OSError("disk\non fire"))
    except OSError:
        EVENT.exception("drain failed")
    exception = lines(stream)[0]["exception"]
    assert exception.startswith(shown)
    assert ("Traceback" in exception) == (level == "debug")


def test_standard_logging_goes_the_same_way(stream: TextIO) -> None:
    """What libraries log through logging comes out as an event with its logger's name, on one line."""
    log.configure("info", "json", stream)
    logging.getLogger("library.queue").warning("Task queue depth is %d\n", 3)
    logging.getLogger("library").debug("left out")
    (line,) = lines(stream)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "Task queue depth is 3", "library.queue")


def test_warnings_go_the_same_way(stream: TextIO) -> None:
    """What libraries warn of comes out as an event, on one line."""
    log.configure("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
    (line,) = lines(stream)
    assert line["level"] == "warning"
    assert "DeprecationWarning: old call" in line["event"]
    assert "\n" not in line["event"]


def test_nothing_goes_to_stdout(stream: TextIO, capfd: pytest.CaptureFixture[str]) -> None:
    """Only the stream is written to."""
    log.configure("debug", "json", stream)
    EVENT.error("drain failed")
    logging.getLogger("library").error("failed")
    assert capfd.readouterr() == ("", "")
    assert len(lines(stream)) == 2


def test_configuring_again_replaces_the_stream(stream: TextIO, tmp_path: Path) -> None:
    """After a second call each event is written once, to the new stream."""
    log.configure("info", "json", stream)
    with (tmp_path / "second").open("w") as second:
        log.configure("info", "json", second)
        EVENT.info("ready")
        assert len(lines(second)) == 1
    assert not lines(stream)


def test_full_disk_loses_lines_and_counts_them() -> None:
    """A disk without space costs the line, which is counted, and never the caller."""
    before = log.lost_lines()
    with Path("/dev/full").open("w") as full:
        log.configure("info", "json", full)
        EVENT.info("first")
        logging.getLogger("library").error("second")
    assert log.lost_lines() == before + 2


def test_closed_pipe_loses_lines_and_counts_them() -> None:
    """A log reader that has gone costs the line, which is counted, and never the caller."""
    before = log.lost_lines()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        log.configure("info", "console", stream)
        EVENT.info("nobody reads")
        assert log.lost_lines() == before + 1
    EVENT.info("the stream is closed")
    assert log.lost_lines() == before + 2


def test_lost_lines_do_not_come_back() -> None:
    """A line that was counted as lost is not written later, when there is room again."""
    before = log.lost_lines()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "w") as stream:
        log.configure("info", "json", stream)
        filled = 0
        while log.lost_lines() == before:
            EVENT.info("filling", text="x" * 1000)
            filled += 1
        written = b""
        while written.count(b"\n") < filled - 1:
            written += os.read(pipe.fileno(), 1 << 20)
        EVENT.info("room again")
        (line,) = os.read(pipe.fileno(), 1 << 20).rpartition(b"\n")[0].split(b"\n")
    assert json.loads(line)["event"] == "room again"


def test_a_reader_that_reads_nothing_holds_nobody_up() -> None:
    """A log that is full and can be waited for costs lines, which are counted; the rest of one cut off stays alone."""
    before = log.lost_lines()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "w") as stream:
        log.configure("info", "json", stream)
        EVENT.info("too long", text="x" * (1 << 20))
        for _ in range(100):
            EVENT.info("no room")
        assert log.lost_lines() == before + 101
        cut = os.read(pipe.fileno(), 1 << 20)
        EVENT.info("room again")
        rest, line = os.read(pipe.fileno(), 1 << 20).splitlines()
    assert cut.endswith(b"x")
    assert rest == b""
    assert json.loads(line)["event"] == "room again"


def test_a_reader_who_is_behind_is_waited_for() -> None:
    """A line that is longer than a pipe comes whole to a reader who reads."""
    before = log.lost_lines()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, ThreadPoolExecutor(1) as pool:
        line = pool.submit(pipe.readline)
        with os.fdopen(writer, "w") as stream:
            log.configure("info", "json", stream)
            EVENT.info("long", text="x" * (1 << 20))
        assert json.loads(line.result())["text"] == "x" * (1 << 20)
    assert log.lost_lines() == before


def test_context_that_cannot_be_shown_is_a_lost_line(stream: TextIO) -> None:
    """An object that fails when it is shown costs its line, and never the caller."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    log.configure("info", "json", stream)
    before = log.lost_lines()
    EVENT.info("broken", value=Broken())
    logging.getLogger("library").error("%d", "no number")
    EVENT.info("alive")
    assert log.lost_lines() == before + 2
    assert [line["event"] for line in lines(stream)] == ["alive"]


def test_threads_do_not_mix_their_lines(stream: TextIO) -> None:
    """Lines of many threads are all there, and each is whole."""
    log.configure("debug", "json", stream)

    def work(thread: int) -> None:
        for number in range(50):
            EVENT.debug("drained", thread=thread, number=number, text="x" * 5000)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = {(line["thread"], line["number"]) for line in lines(stream)}
    assert seen == {(thread, number) for thread in range(8) for number in range(50)}


def test_a_flood_of_lines_alike_is_bounded(stream: TextIO) -> None:
    """Of thousands of lines alike, of the daemon's or of a library's, a hundred are written, the others counted."""
    log.configure("info", "json", stream)
    before = log.suppressed_lines()
    for number in range(5000):
        EVENT.warning("connection not accepted", server="metrics", number=number)
        logging.getLogger("library").error("socket.accept() %d", number)
    EVENT.info("xdp attached", interface="eth0")
    written = lines(stream)
    events = [line["event"] for line in written]
    assert 100 <= events.count("connection not accepted") < 200
    assert 100 <= sum("socket.accept()" in event for event in events) < 200
    assert events[-1] == "xdp attached"
    assert log.suppressed_lines() - before == 10_001 - len(written)


def test_what_was_left_out_is_said_with_the_next_line(stream: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line after a gap says how many were left out."""
    log.configure("info", "json", stream)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    for _ in range(150):
        EVENT.info("again")
    monkeypatch.setattr(time, "monotonic", lambda: 2.5)
    EVENT.info("again")
    assert [line.get("left_out") for line in lines(stream)] == [*[None] * 100, 50]


def test_debug_events_are_all_written(stream: TextIO) -> None:
    """Whoever has asked for debug events gets each."""
    log.configure("debug", "json", stream)
    for _ in range(300):
        EVENT.debug("drained")
    assert len(lines(stream)) == 300


def test_a_line_never_waits_for_a_reader_who_is_stuck() -> None:
    """With a pipe that is full and never read, thousands of lines, longer than it takes at once, are lost at once."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 3 * mmap.PAGESIZE)
    with os.fdopen(reader, "rb") as unread, os.fdopen(writer, "w") as stream:
        log.configure("debug", "json", stream)
        before = log.lost_lines()

        def work() -> None:
            for _ in range(3000):
                EVENT.debug("drained", text="x" * (select.PIPE_BUF + 1000))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(60)  # of which each line would take a part, if it waited
        assert not thread.is_alive()
        assert log.lost_lines() - before >= 2997
        assert unread.readable()


class Unending:
    """An object whose end fails."""

    def __del__(self) -> None:
        """Fail."""
        raise ValueError("no end")


def test_what_nobody_can_catch_is_a_line(stream: TextIO) -> None:
    """An exception of an object's end is one line of the log, and no traceback on stderr."""
    log.configure("info", "json", stream)
    Unending()
    gc.collect()
    (line,) = lines(stream)
    assert (line["level"], line["logger"], line["exception"]) == ("warning", "python", "ValueError: no end")


def test_interfaces_have_their_lines_each_by_themselves(stream: TextIO) -> None:
    """An interface that flaps does not have the lines of another one left out."""
    log.configure("info", "json", stream)
    for _ in range(150):
        EVENT.info("interface gone", interface="eth0")
    EVENT.info("interface gone", interface="eth1")
    assert [line["interface"] for line in lines(stream)] == ["eth0"] * 100 + ["eth1"]


def test_libraries_do_not_tell_of_their_insides(stream: TextIO) -> None:
    """At level debug, what asyncio and pyroute2 have for themselves stays out, and their warnings do not."""
    log.configure("debug", "json", stream)
    for library in ("asyncio", "pyroute2"):
        logging.getLogger(f"{library}.netlink").debug("insides")
        logging.getLogger(library).warning("of concern")
    assert [(line["logger"], line["event"]) for line in lines(stream)] == [
        ("asyncio", "of concern"),
        ("pyroute2", "of concern"),
    ]


def test_a_traceback_keeps_its_lines_on_the_console(stream: TextIO) -> None:
    """A traceback, which level debug shows, is as many lines as it has; a line break of any other text is escaped."""
    log.configure("debug", "console", stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        EVENT.exception("failed", name="a\nb")
    text = Path(stream.name).read_text(encoding="utf-8")
    assert r"a\nb" in text
    assert "\nTraceback (most recent call last):\n" in text
    assert "\nValueError: first\nsecond" in text


def test_a_line_waits_for_a_twentieth_of_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a reader who is stuck, one line waits so long, and the next ones not at all."""
    waited: list[float] = []

    class Full:
        """What a descriptor polls as that has no room."""

        def register(self, *_: object) -> None:
            """Take a descriptor."""

        def poll(self, milliseconds: float) -> list[object]:
            """Return that it has none, and note how long would have been waited."""
            waited.append(milliseconds)
            return []

    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "w") as stream:
        log.configure("info", "json", stream)
        monkeypatch.setattr(select, "poll", Full)
        EVENT.info("first")
        EVENT.info("second")
        monkeypatch.undo()
    assert 0 < waited[0] <= 50
    assert waited[1:] == [0]
