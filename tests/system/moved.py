"""The machine's checkout, moved out of the way of what is installed from it, and without a network."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from cnf import __version__
from tests.system.machine import CACHE, CHECKOUT, HOME, Machine
from tests.system.service import Service

MOVED: Final = "/opt/checkout"
"""Where the checkout is meanwhile: HOME is what deploy/install.sh installs to."""
WHEELS: Final = "root/wheels"
EXAMPLE: Final = "deploy/cnf.toml"
VERSION: Final = "cnf/__init__.py"


class Moved:
    """The checkout at MOVED, of a machine that has nothing of ours but that."""

    def __init__(self, service: Service) -> None:
        """Take the service of the other tests away."""
        self.service, self.machine = service, service.machine
        service.remove()
        self.machine.run("mv", HOME, MOVED)
        _download(self.machine)

    def put_back(self) -> None:
        """Have the service again as the other tests expect it."""
        self.machine.run("mv", MOVED, HOME)
        self.service.install()

    def run(self, *command: str, wheels: str = f"/{WHEELS}") -> subprocess.CompletedProcess[str]:
        """Run a command to which the locked packages lie in the folder ``wheels``."""
        return self.machine.try_to("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={wheels}", *command)

    def renew(self, version: str, example: str = "") -> None:
        """Make it another version, with another example if there is one."""
        text = (CHECKOUT / VERSION).read_text(encoding="utf-8")
        self.machine.write(f"{MOVED}/{VERSION}", text.replace(__version__, version))
        self.machine.write(f"{MOVED}/{EXAMPLE}", example or (CHECKOUT / EXAMPLE).read_text(encoding="utf-8"))

    def reset(self) -> None:
        """Have the checkout as it was."""
        self.renew(__version__)


def _download(machine: Machine) -> None:
    """Put the locked packages in WHEELS of the machine, from here, where the registries are in reach."""
    inode = int(machine.run("stat", "-c", "%i", "/"))
    root = next(folder for folder in CACHE.iterdir() if folder.stat().st_ino == inode)
    version = machine.run("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    for_machine = ("--no-deps", "--only-binary", ":all:", "--python-version", version, "--dest", str(root / WHEELS))
    for lock in ("requirements.lock", "requirements-build.lock"):
        locked = ("--require-hashes", "--requirement", str(CHECKOUT / lock))
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", *for_machine, *locked], check=True)
