"""Whoever asks for a reload gets the outcome of one that began after the question."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from cnf.errors import UnavailableError, UsageError
from cnf.server.reloads import Reloaded, Reloads

DONE = Reloaded("the file", ())


def refuse() -> Reloaded:
    """Refuse the settings."""
    raise UsageError("no")


def test_the_outcome_is_the_callers() -> None:
    """What has been done is returned, and what was refused is raised, to each of several callers."""
    asked = threading.Semaphore(0)
    reloads = Reloads(asked.release)
    with ThreadPoolExecutor(2) as pool:
        for reload, outcome in ((lambda: DONE, None), (refuse, UsageError)):
            answers = [pool.submit(reloads.ask) for _ in range(2)]
            for _ in answers:
                assert asked.acquire(timeout=5)
            reloads.do(reload)
            for answer in answers:
                if outcome is None:
                    assert answer.result(5) == DONE
                else:
                    assert isinstance(answer.exception(5), outcome)


def test_a_reload_that_was_under_way_is_not_the_answer() -> None:
    """A question that comes while settings are being read is answered by the next reading."""
    asked = threading.Semaphore(0)
    reloads = Reloads(asked.release)
    with ThreadPoolExecutor(1) as pool:

        def while_asked() -> Reloaded:
            answers.append(pool.submit(reloads.ask))
            assert asked.acquire(timeout=5)
            return Reloaded("the file before", ())

        answers: list[Future[Reloaded]] = []
        reloads.do(while_asked)
        assert not answers[0].done()
        reloads.do(lambda: DONE)
        assert answers[0].result(5) == DONE


def test_at_the_end_nobody_waits() -> None:
    """Once closed, who waits is told that the daemon ends, and so is who asks then."""
    asked = threading.Semaphore(0)
    reloads = Reloads(asked.release)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(reloads.ask)
        assert asked.acquire(timeout=5)
        reloads.close()
        with pytest.raises(UnavailableError, match="about to end"):
            answer.result(5)
    with pytest.raises(UnavailableError, match="about to end"):
        reloads.ask()
