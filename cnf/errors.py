"""The errors that reach a user, each with the exit status it ends a command with.

::

    CnfError                          what + on which object + the kernel's words (cause and remedy)
    ├── UsageError            64      a command line or a filter expression that cannot be understood
    ├── UnavailableError      69      the daemon, or a part of the system that it needs, is not there
    ├── KernelError           71      the kernel, or the compiler in front of it, refused
    │   ├── CompileError              flow.c did not compile
    │   ├── VerifierError             the program was rejected at load
    │   ├── AttachError               the program could not be put on, or taken off, an interface
    │   └── MapError                  a read or write of a BPF map failed
    ├── PrivilegeError        77      a capability, or access to a file or socket, is missing
    └── ConfigError           78      the configuration; holds every problem found, not the first

Errors are caught by class, never by their text. ``str(error)`` is one line without a line break.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final


class CnfError(Exception):
    """Say in one line what failed, on which object, in whose words, and what to do."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "", details: str = "") -> None:
        """Keep what failed, what to do about it, and ``details`` (a compiler's or verifier's log) for the debug log.

        ``str(error)`` has the message, and the remedy in parentheses behind it.
        """
        self.message = " ".join(message.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(f"{self.message} ({self.remedy})" if remedy else self.message)
        self.details = details


class UsageError(CnfError):
    """Refuse a command line or a filter expression."""

    exit_status = 64


class UnavailableError(CnfError):
    """Report that the daemon, or software it needs, is not there."""

    exit_status = 69


class KernelError(CnfError):
    """Report that the kernel, or the compiler in front of it, refused."""

    exit_status = 71


class CompileError(KernelError):
    """Report that flow.c did not compile."""


class VerifierError(KernelError):
    """Report that the verifier rejected a program."""


class AttachError(KernelError):
    """Report that an interface would not take, or give up, the program."""


class MapError(KernelError):
    """Report that a BPF map could not be read or written; ``errno`` is the kernel's."""

    def __init__(self, message: str, *, errno: int) -> None:
        """Keep the kernel's ``errno`` beside the message."""
        super().__init__(message)
        self.errno = errno


class PrivilegeError(CnfError):
    """Name the capability, file mode or group that is missing."""

    exit_status = 77


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration: the key path (``interfaces[0].mode``) and what was expected there."""

    path: str
    message: str

    def __str__(self) -> str:
        """Return ``path: message``, or the message alone for the file as a whole."""
        return f"{self.path}: {self.message}" if self.path else self.message


SHOWN_PROBLEMS: Final = 20
"""A file with more mistakes has one that is made in each line, which twenty show as well as thousands."""


def joined(problems: Sequence[Problem]) -> str:
    """Return ``problems`` in one line: the first of them, and how many more there are."""
    more = len(problems) - SHOWN_PROBLEMS
    shown = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    return "; ".join([*shown, f"and {more:,} more"] if more > 0 else shown)


class ConfigError(CnfError):
    """Refuse a configuration, with every problem in it; the message names the first ones, ``details`` all."""

    exit_status = 78

    def __init__(self, source: str, problems: Sequence[Problem], remedy: str = "") -> None:
        """Join ``problems``, found in ``source`` (a path, or ``command line``), into one line; ``remedy`` ends it."""
        details = "\n".join(map(str, problems)) if len(problems) > SHOWN_PROBLEMS else ""
        super().__init__(f"configuration {source}: {joined(problems)}", remedy=remedy, details=details)
        self.source = source
        self.problems = tuple(problems)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return which of ``known`` was probably meant by ``word``; None if none is near.

    Only the first 64 characters are compared: comparing takes quadratic time.
    """
    return next(iter(difflib.get_close_matches(word[:64], [*known], n=1)), None)
