"""The state file: what was changed at run time, as JSON, to outlive a restart."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError
from cnf.limits.overrides import Overrides
from cnf.limits.table import written
from cnf.readers import RefusedError, printable, table


def load(path: Path) -> Overrides:
    """Read the file ``path``; a missing one holds nothing.

    Raises:
        ConfigError: with every problem in it, or it is no file.
        PrivilegeError, UnavailableError: it cannot be read.

    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Overrides()
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise _error(path, Problem("", str(error.strerror))) from error
        raise _failure(path, error) from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(path, Problem("", f"not UTF-8 (at line {line})")) from None
    return read(text, path)


def read(text: str, path: Path) -> Overrides:
    """Read JSON from ``text``; ``path`` names it in errors. Raises ConfigError with every problem in it."""
    try:
        return table(Overrides)(json.loads(text), "")
    except json.JSONDecodeError as error:
        raise _error(path, Problem("", f"not JSON: {error}")) from None
    except ValueError:  # int() refuses thousands of digits
        raise _error(path, Problem("", "not JSON: a number is too long")) from None
    except RecursionError:
        raise _error(path, Problem("", "arrays or objects are nested too deeply")) from None
    except RefusedError as error:
        raise _error(path, *error.problems) from None


def to_json(overrides: Overrides) -> str:
    """Return what ``read()`` reads, laid out for people; a rule has the keys that it would have in TOML."""
    return json.dumps(written(overrides), indent=2) + "\n"


def save(path: Path, overrides: Overrides) -> None:
    """Put ``overrides`` in place of the file ``path``, as a whole or not at all, for its owner's eyes only.

    Raises:
        PrivilegeError: the file system does not let us.
        UnavailableError: it fails, or is full.

    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)  # of a daemon that was killed while it wrote
        fresh.touch(0o600, exist_ok=False)
        with fresh.open("w", encoding="utf-8") as file:
            file.write(to_json(overrides))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise _failure(path, error) from error


def _sync(directory: Path) -> None:
    """Make a new name in ``directory`` outlive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(path: Path, error: OSError) -> CnfError:
    message = f"limits.state_file: {printable(str(error.filename or path))}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "run as root, or choose a folder of this user's; for a service, name it in ReadWritePaths="
        return PrivilegeError(message, remedy=remedy)
    return UnavailableError(message, remedy="make room there, or choose another path")


def _error(path: Path, *problems: Problem) -> ConfigError:
    remedy = "move the file away to start without what was changed at run time"
    return ConfigError(printable(str(path)), problems, remedy)
