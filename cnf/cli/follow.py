"""Follow a stream that the daemon pushes, over connection after connection, and say what of it is missing."""

from __future__ import annotations

import os
import select
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Final, Generic, TypeVar

from cnf.cli.api.client import Wait
from cnf.cli.api.stream_replies import About
from cnf.errors import CnfError
from cnf.units import number_of, printable

RETRY: Final = 0.2
"""Seconds from the end of a connection to the next one: the daemon may be restarting."""

AboutT = TypeVar("AboutT", bound=About)
Item = TypeVar("Item")


class Follower(ABC, Generic[AboutT, Item]):
    """Show what a stream has, and know what was shown."""

    noun: str
    """What an item is called."""

    def __init__(self, since: int | None) -> None:
        """Begin after the item numbered ``since``; if None, where the daemon begins."""
        self._seen = since
        """The number of the latest item that was shown."""
        self._about: AboutT | None = None

    @abstractmethod
    def ask(self, after: int | None, wait: Wait | None) -> Generator[AboutT | list[Item], None, None]:
        """Ask for what comes after a number; yield it, and what there is to know about it. Raises CnfError."""

    @abstractmethod
    def show(self, items: list[Item]) -> int:
        """Write items to stdout; return the number of the latest."""

    @abstractmethod
    def lost(self, before: AboutT | None, now: AboutT) -> Iterator[str]:
        """Yield notes on what has been lost for good."""

    def read(self, wait: Wait | None = None) -> None:
        """Show what there is until the connection ends, which it does at once without ``wait``.

        Raises:
            CnfError: the daemon, or its answer.

        """
        while self._read_one(wait):
            pass

    def follow(self) -> None:
        """Show what there is and what comes, until stdout is closed, or the user interrupts.

        Raises:
            CnfError: nothing has come yet; later ones are said, and it is tried again.

        """
        failing = False
        try:
            while not _reader_has_gone(RETRY if self._about else 0.0):
                try:
                    self.read(wait_for_more)
                    failing = False
                except CnfError as error:
                    if self._about is None:
                        raise
                    if not failing:
                        say(f"{error}; trying again")
                    failing = True
        except (KeyboardInterrupt, ReaderHasGoneError):
            pass
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed

    def _read_one(self, wait: Wait | None) -> bool:
        """Read one answer; return whether it has to be asked anew, since the daemon numbers anew."""
        with closing(self.ask(self._seen, wait)) as parts:
            for part in parts:
                if isinstance(part, list):
                    self._seen = self.show(part)
                    sys.stdout.flush()
                    continue
                before, self._about = self._about, part
                for note in self._notes(before, part):
                    say(note)
                if self._is_anew(before, part):
                    self._seen = 0
                    return True
                self._seen = part["at"]
        return False

    def _is_anew(self, before: AboutT | None, now: AboutT) -> bool:
        return (before is not None and before["id"] != now["id"]) or now["last"] < (self._seen or 0)

    def _notes(self, before: AboutT | None, now: AboutT) -> Iterator[str]:
        anew = self._is_anew(before, now)
        if before is None and anew:
            yield f"the latest {self.noun} is {now['last']}: {self.noun}s are numbered anew, and shown from the first"
        elif before and before["started"] != now["started"]:
            effect = (
                f"numbers {self.noun}s anew; {self.noun}s after the last one shown may be missing"
                if anew
                else f"goes on with the {self.noun}s that came meanwhile"
            )
            yield f"cnfd was restarted, and {effect}"
        if now["missed"]:
            yield f"{number_of(now['missed'], self.noun)} not shown: the daemon keeps the latest ones only"
        yield from self.lost(None if anew else before, now)


class ReaderHasGoneError(Exception):
    """Report that nobody reads stdout any more."""


def say(note: str) -> None:
    """Write a note to stderr."""
    print(f"cnfctl: {printable(note)}", file=sys.stderr)


def _reader_has_gone(seconds: float) -> bool:
    """Wait for so long; return whether nobody reads stdout any more."""
    output = select.poll()
    output.register(sys.stdout, 0)  # errors and hang-ups only
    return bool(output.poll(seconds * 1000))


def wait_for_more(connection: socket.socket) -> None:
    """Wait until there is something to read. Raises ReaderHasGoneError."""
    both = select.poll()
    both.register(sys.stdout, 0)
    both.register(connection, select.POLLIN)
    if any(descriptor != connection.fileno() for descriptor, _ in both.poll()):
        raise ReaderHasGoneError
