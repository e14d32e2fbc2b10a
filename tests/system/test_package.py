"""deploy/package.sh on a machine of each suite: the package from its installation to its purge."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cnf import __version__
from tests.net.wait import wait_for
from tests.system.moved import MOVED, Moved
from tests.system.service import CONFIG, DROP_IN, Service
from tests.system.traffic import LIMITS, nothing_lost

NEXT: Final = "9.9"
BUILD: Final = "/opt/build"
"""Where the packages are built: the checkout's own .venv is that of other tests, and cannot move."""
FAST: Final = ("DPKG_DEB_COMPRESSOR_TYPE=gzip", "DPKG_DEB_COMPRESSOR_LEVEL=1")
DOCUMENTS: Final = "/usr/share/doc/cnf"
PLACES: Final = ("/etc", "/usr", "/var/lib/cnf", "/var/lib/systemd/deb-systemd-helper-enabled", "/var/lib/dpkg/info")
PLACES_AT_RUN_TIME: Final = ("/run/cnf", "/sys/fs/bpf", "/var/cache/cnf")


class Packages:
    """Packages of two versions, on a machine that has no network."""

    def __init__(self, moved: Moved) -> None:
        """Build them."""
        self.service, self.machine = moved.service, moved.machine
        self.paths = {}
        for version in (__version__, NEXT):
            moved.renew(version)
            self.machine.run("sh", "-c", f"mkdir -p {BUILD} && cp -R {MOVED}/* {BUILD}")  # but what begins with a dot
            built = moved.run(*FAST, "sh", f"{BUILD}/deploy/package.sh")
            assert built.returncode == 0, built.stderr
            self.paths[version] = f"{BUILD}/{built.stdout.strip()}"

    def install(self, version: str) -> str:
        """Install a version, or upgrade to it, and return what is said."""
        return self.machine.run("sh", "-c", 'dpkg --install "$0" 2>&1', self.paths[version])

    def purge(self) -> None:
        """Remove it with its configuration and state."""
        self.machine.run("dpkg", "--purge", "cnf")

    def files(self) -> set[str]:
        """Return all there is where it could leave something."""
        return set(self.machine.try_to("find", *PLACES, *PLACES_AT_RUN_TIME).stdout.splitlines())

    def running(self) -> str:
        """Return the version of the daemon that answers."""
        return str(self.service.cnfctl("status")["daemon"]["version"])


@pytest.fixture(scope="module")
def built(installed: Service) -> Iterator[Packages]:
    """Build the packages once for all tests of a suite, and put back in the end what the other tests expect."""
    moved = Moved(installed)
    installed.cnfctl_path, path = "cnfctl", installed.cnfctl_path
    packages = Packages(moved)
    yield packages
    packages.purge()
    packages.machine.run("rm", "-r", BUILD)
    installed.cnfctl_path = path
    moved.reset()
    moved.put_back()


@pytest.fixture
def packages(built: Packages) -> Packages:
    """Give each test a machine without the package."""
    built.purge()
    built.machine.run("rm", "-f", DROP_IN)
    return built


def test_nothing_is_left(packages: Packages) -> None:
    """An installation starts nothing; what it says then works; a removal stops it, and a purge leaves nothing."""
    before = packages.files()
    packages.install(__version__)
    assert packages.service.show("ActiveState") == "inactive"
    assert packages.service.show("UnitFileState") == "disabled"
    packages.service.configure(packages.service.example("nic0"))
    packages.machine.run("cnfctl", "doctor")
    packages.machine.run("systemctl", "enable", "--now", "cnfd")
    assert packages.running() == __version__
    assert packages.machine.run("cnfd", "--version") == f"cnfd {__version__}\n"
    assert packages.machine.run("zcat", "/usr/share/man/man1/cnfctl.1.gz").startswith(".TH CNFCTL 1")
    alerts = f"{DOCUMENTS}/deploy/prometheus/alerts.yml"
    linked = packages.machine.run("sed", "-n", r"s|.*runbook_url: file://\(.*\)#cnfdown$|\1|p", alerts).strip()
    assert "### CnfDown\n" in packages.machine.run("cat", linked)
    assert f"{DOCUMENTS}/docs" in packages.machine.run("zcat", "/usr/share/man/man8/cnfd.8.gz")
    packages.machine.run("dpkg", "--remove", "cnf")
    assert packages.service.program("nic0") is None
    assert packages.machine.run("grep", "-c", "nic0", CONFIG) == "1\n"
    packages.purge()
    assert packages.files() == before
    assert packages.machine.try_to("getent", "passwd", "cnf").returncode == 2


def test_an_upgrade_has_no_gap(packages: Packages) -> None:
    """While an upgrade takes over from the version that runs, every packet is counted, and limits hold."""
    packages.install(__version__)
    packages.service.configure(packages.service.example("nic0") + LIMITS)
    packages.service.start()
    with nothing_lost(packages.service):
        packages.install(NEXT)
        assert packages.running() == NEXT


def test_an_upgrade_that_would_not_start(packages: Packages) -> None:
    """A daemon whose configuration the next version refuses goes on, and the upgrade says what to do."""
    packages.install(__version__)
    packages.service.configure(packages.service.example("nic0"))
    packages.service.start()
    packages.service.configure(packages.service.example("nic0") + "\n[flow]\n")
    assert "mend /etc/cnf/cnf.toml" in packages.install(NEXT)
    assert packages.running() == __version__


def test_what_a_kill_has_left(packages: Packages) -> None:
    """A program that a killed daemon has left on its interface goes with the package."""
    packages.install(__version__)
    packages.service.configure(packages.service.example("nic0"))
    packages.service.start()
    packages.service.override("Restart=no")
    packages.service.signal("KILL")
    wait_for(lambda: packages.service.show("ActiveState") == "failed", "the end")
    assert packages.service.program("nic0") is not None
    packages.purge()
    assert packages.service.program("nic0") is None


def test_a_removal_without_rights(packages: Packages) -> None:
    """Where nobody may look at interfaces, as while an image is built, the package can be removed all the same."""
    packages.install(__version__)
    dropped = "-net_admin,-bpf,-sys_admin"
    without = ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}")
    packages.machine.run(*without, "dpkg", "--remove", "cnf")
    assert packages.machine.try_to("cnfctl", "--version").returncode != 0


def test_beside_an_installation(packages: Packages) -> None:
    """Where deploy/install.sh has installed it, the package is refused, and says what to do."""
    unit = "/usr/local/lib/systemd/system/cnfd.service"
    packages.machine.run("cp", f"{MOVED}/systemd/cnfd.service", unit)
    try:
        refused = packages.machine.try_to("dpkg", "--install", packages.paths[NEXT])
    finally:
        packages.machine.run("rm", unit)
    assert refused.returncode == 1
    assert "--uninstall" in refused.stderr


def test_lintian(packages: Packages) -> None:
    """Lintian finds no error."""
    package = Path(f"/proc/{packages.machine.init}/root") / packages.paths[NEXT].lstrip("/")
    command = ["lintian", "--no-cfg", "--allow-root", "--fail-on", "error", str(package)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
