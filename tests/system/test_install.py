"""deploy/install.sh on a machine of each suite: from nothing to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.net.wait import wait_for
from tests.system.machine import CHECKOUT, HOME
from tests.system.moved import MOVED, WHEELS, Moved
from tests.system.service import CONFIG, DROP_IN, UNITS, Service
from tests.system.traffic import LIMITS, nothing_lost

SCRIPT: Final = "deploy/install.sh"
PLACES: Final = (
    "/etc",
    "/opt",
    "/root",
    "/run/cnf",
    "/sys/fs/bpf",
    "/usr/lib",
    "/usr/local",
    "/var/cache/cnf",
    "/var/lib/cnf",
)
COMPLETE: Final = """
. "$1/cnfctl"
COMP_WORDS=(cnfctl fl) COMP_CWORD=1
_shtab_cnfctl
echo "${COMPREPLY[@]}"
"""
CURRENT, PREVIOUS = f"{HOME}/current", f"{HOME}/previous"


class Installer:
    """The script on the machine."""

    def __init__(self, moved: Moved) -> None:
        """Take the checkout that it is in."""
        self.moved, self.service, self.machine = moved, moved.service, moved.machine

    def run(self, *arguments: str, script: str = f"{MOVED}/{SCRIPT}", wheels: str = f"/{WHEELS}") -> tuple[int, str]:
        """Run the script; return its exit status and what it says, on stdout and stderr."""
        done = self.moved.run("sh", script, *arguments, wheels=wheels)
        return done.returncode, done.stdout + done.stderr

    def succeed(self, *arguments: str, script: str = f"{MOVED}/{SCRIPT}") -> str:
        """Run the script, which must succeed, and return what it says."""
        status, output = self.run(*arguments, script=script)
        assert status == 0, output
        return output

    def start(self) -> None:
        """Install it, as an administrator then goes on."""
        self.succeed()
        self.service.configure(self.service.example("nic0"))
        self.service.start()

    def purge(self) -> None:
        """Have nothing installed."""
        self.succeed("--uninstall", "--purge")

    def renew(self, version: str) -> None:
        """Make the checkout another version, with another example."""
        self.moved.renew(version, f"# the example of {version}\n")

    def reset(self) -> None:
        """Stop it, and have the checkout as it was; versions that are installed stay, since each takes seconds."""
        self.machine.try_to("systemctl", "stop", "cnfd")
        self.machine.run("rm", "-f", DROP_IN)
        self.moved.reset()

    def running(self) -> tuple[str, str]:
        """Return version and process id of the daemon that answers."""
        daemon: dict[str, Any] = self.service.cnfctl("status")["daemon"]
        return daemon["version"], str(daemon["pid"])

    def target(self, link: str) -> str:
        """Return the name of the version that ``link`` points to."""
        return self.machine.run("readlink", link).strip()

    def files(self, times: str = "") -> set[str]:
        """Return all there is where it could leave something but bytecode, each with find's format ``times``."""
        found = self.machine.try_to("find", *PLACES, "!", "-path", "*__pycache__*", "-printf", f"%p{times}\n").stdout
        return set(found.splitlines())


@pytest.fixture(scope="module")
def stage(installed: Service) -> Iterator[Installer]:
    """Clear the machine once for all tests of its suite, and put back in the end what the other tests expect."""
    moved = Moved(installed)
    installer = Installer(moved)
    yield installer
    installer.purge()
    moved.put_back()


@pytest.fixture
def installer(stage: Installer) -> Iterator[Installer]:
    """Give each test a stopped service, or none, and the checkout as it was."""
    yield stage
    stage.reset()


def test_install(installer: Installer) -> None:
    """Everything is there, nothing is started, and the output says what to do next, which then works."""
    installer.purge()
    output = installer.succeed()
    assert f"next: edit {CONFIG}, then: cnfctl doctor, then: systemctl enable --now cnfd" in output
    assert installer.service.show("ActiveState") == "inactive"
    assert installer.machine.run("cat", CONFIG) == (CHECKOUT / "deploy/cnf.toml").read_text(encoding="utf-8")
    installer.service.configure(installer.service.example("nic0"))
    installer.machine.run("cnfctl", "doctor")
    installer.machine.run("systemctl", "enable", "--now", "cnfd")
    assert f"releases/{installer.running()[0]}-" in installer.target(CURRENT)


def test_what_is_beside_the_commands(installer: Installer) -> None:
    """The shell completes, manual pages are where man looks, and --version names the commit of the checkout."""
    installer.machine.write("/usr/local/sbin/git", "#!/bin/sh\necho 0a1b2c3\n")  # the machine has none
    installer.machine.run("chmod", "755", "/usr/local/sbin/git")
    installer.machine.run("mkdir", f"{MOVED}/.git")
    try:
        installer.renew("9.6")
        installer.succeed()
    finally:
        installer.machine.run("rm", "-r", "/usr/local/sbin/git", f"{MOVED}/.git")
    for command in ("cnfd", "cnfctl"):
        assert installer.machine.run(command, "--version") == f"{command} 9.6 (0a1b2c3)\n"
    assert installer.machine.run("head", "-n", "1", "/usr/local/share/man/man5/cnf.toml.5").startswith(".TH CNF.TOML 5")
    completed = installer.machine.run("bash", "-c", COMPLETE, "-", "/usr/local/share/bash-completion/completions")
    assert completed == "flows\n"


def test_repeated(installer: Installer) -> None:
    """A second run changes no file and leaves the running service alone."""
    installer.start()
    before = installer.running(), installer.files(" %T@ %i")
    installer.succeed()
    assert (installer.running(), installer.files(" %T@ %i")) == before


def test_upgrade_and_back(installer: Installer) -> None:
    """The running service stays until it is asked to restart; the version before is kept, and can be gone back to."""
    installer.start()
    before, old = installer.running(), installer.target(CURRENT)
    installer.renew("9.1")
    assert "systemctl restart cnfd" in installer.succeed()
    assert installer.running() == before
    assert installer.target(PREVIOUS) == old
    assert "to go back: sudo sh /opt/cnf/previous/deploy/install.sh --restart" in installer.succeed("--restart")
    assert installer.running()[0] == "9.1"
    installer.succeed("--restart", script=f"{PREVIOUS}/{SCRIPT}")
    assert (installer.running()[0], installer.target(CURRENT)) == (before[0], old)


def test_an_upgrade_has_no_gap(installer: Installer) -> None:
    """While a new version is put in the place of the one that runs, every packet is counted, and limits hold."""
    installer.succeed()
    installer.service.configure(installer.service.example("nic0") + LIMITS)
    installer.service.start()
    with nothing_lost(installer.service):
        installer.renew("9.5")
        installer.succeed("--restart")
        assert installer.running()[0] == "9.5"


def test_upgrade_keeps_what_is_in_use(installer: Installer) -> None:
    """Of many versions these stay: the current, the one before, and the one that the service still runs."""
    installer.start()
    kept = {installer.target(CURRENT)}
    for version in ("9.1", "9.2", "9.3"):
        installer.renew(version)
        installer.succeed()
    kept |= {installer.target(CURRENT), installer.target(PREVIOUS)}
    assert {f"releases/{name}" for name in installer.machine.run("ls", f"{HOME}/releases").split()} == kept


def test_configuration_is_the_administrators(installer: Installer) -> None:
    """An upgrade leaves the configuration as it is, and puts the new example beside it."""
    installer.start()
    edited = installer.machine.run("cat", CONFIG)
    installer.renew("9.3")
    installer.succeed()
    assert installer.machine.run("cat", CONFIG) == edited
    assert installer.machine.run("cat", f"{CONFIG}.example") == "# the example of 9.3\n"


def test_failed_upgrade_changes_nothing(installer: Installer) -> None:
    """When a package is not to be had, version, files and service in use are those from before."""
    installer.start()
    before = installer.running(), installer.target(CURRENT), installer.machine.run("cat", f"{CONFIG}.example")
    installer.renew("9.4")
    status, output = installer.run(wheels="/nowhere")
    assert (status, output.splitlines()[-1][:24]) == (69, "deploy/setup.sh: failed:")
    after = installer.running(), installer.target(CURRENT), installer.machine.run("cat", f"{CONFIG}.example")
    assert after == before


def test_restart_is_refused(installer: Installer) -> None:
    """A service that would not start again for its configuration is not restarted."""
    installer.start()
    before = installer.running()
    installer.service.configure(installer.service.example("nic0") + "\n[flow]\n")
    status, output = installer.run("--restart")
    assert status == 78
    assert "flow: unknown key" in output
    assert installer.running() == before


def test_refusals(installer: Installer) -> None:
    """Whoever is not root, or asks for what there is not, is told so in one line, and nothing happens."""
    before = installer.files(" %T@ %i")
    refused = installer.machine.try_to("setpriv", "--reuid=65534", "sh", f"{MOVED}/{SCRIPT}")
    assert (refused.returncode, refused.stderr) == (77, f"{SCRIPT}: must run as root: sudo sh {SCRIPT}\n")
    status, output = installer.run("--purge")
    assert (status, output.count("\n")) == (64, 1)
    assert installer.files(" %T@ %i") == before


def test_uninstall(installer: Installer) -> None:
    """Of a running service stay configuration and state alone, the history in it; with --purge nothing."""
    installer.purge()
    before = installer.files()
    assert not {UNITS, "/usr/local/lib/sysusers.d"} & before
    installer.start()
    assert installer.service.program("nic0") is not None
    installer.succeed("--uninstall", script=f"{CURRENT}/{SCRIPT}")
    assert installer.service.program("nic0") is None
    assert installer.service.show("LoadState") == "not-found"
    assert installer.machine.try_to("getent", "passwd", "cnf").returncode == 2
    history = {each for each in installer.files() if each.startswith("/var/lib/cnf/history")}
    assert history
    for kept in ({"/etc/cnf", CONFIG, "/var/lib/cnf", *history}, set()):
        assert installer.files() == before | kept
        installer.succeed("--uninstall", "--purge")


def test_uninstall_after_a_kill(installer: Installer) -> None:
    """A program that a killed daemon has left on its interface goes, too, with its pins."""
    installer.start()
    installer.service.override("Restart=no")
    installer.service.signal("KILL")
    wait_for(lambda: installer.service.show("ActiveState") == "failed", "the end")
    assert installer.service.program("nic0") is not None
    installer.succeed("--uninstall")
    assert installer.service.program("nic0") is None
    assert installer.machine.try_to("test", "-e", "/sys/fs/bpf/cnf").returncode == 1
