"""The project's commands as another user than root, wherever the checkout and its Python stand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cnf

NOBODY: Final = 65534

# In a mount namespace of its own, the folders are seen at places that every user may enter (/root is none).
MOUNT: Final = 'set -e; mount --bind "$1" "$2"; mount --bind "$3" "$4"; shift 4; exec "$@"'


class Stage:
    """Where other users find Python and the project."""

    def __init__(self, folder: Path) -> None:
        """Make the places in ``folder``."""
        self._python, self._project = folder / "python", folder / "project"
        self._python.mkdir()
        self._project.mkdir()

    def command(self, module: str, *setpriv: str) -> Sequence[str]:
        """Return the command that runs ``module`` of the project under setpriv(1) with these options."""
        project = Path(cnf.__file__).parent.parent
        mount = ("unshare", "--mount", "sh", "-c", MOUNT, "sh", sys.prefix, self._python, project, self._project)
        python = ("env", f"PYTHONPATH={self._project}", self._python / "bin" / "python", "-P", "-m", module)
        return tuple(map(str, (*mount, "setpriv", *setpriv, *python)))


def as_user(user: int = NOBODY, *, groups: Sequence[int] = (), capabilities: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the options of setpriv(1) for a user with these groups and capabilities, and no others."""
    supplementary = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    options = (f"--reuid={user}", f"--regid={user}", supplementary)
    if not capabilities:
        return options
    # Without -all, setpriv keeps what it was given to inherit, which is not permitted to another user than root.
    wanted = ",".join(("-all", *(f"+{name}" for name in capabilities)))
    return (*options, f"--inh-caps={wanted}", f"--ambient-caps={wanted}")


def without(*capabilities: str) -> tuple[str, ...]:
    """Return the options of setpriv(1) for root without these capabilities."""
    dropped = ",".join(f"-{name}" for name in capabilities)
    return (f"--bounding-set={dropped}", f"--inh-caps={dropped}")
