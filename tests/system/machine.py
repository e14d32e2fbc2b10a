"""A new Debian machine: made by debootstrap, set up from this checkout, and booted with systemd as its PID 1.

It is a container of systemd-nspawn on this machine's kernel, in a network of its own from which nothing leads outside.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests import abilities

SUITES: Final = ("bookworm", "trixie")
"""Debian 12: systemd 252, Python 3.11, BCC 0.26; Debian 13: systemd 257, Python 3.13, BCC 0.31."""

CACHE: Final = Path(os.environ.get("CNF_TEST_CACHE", "/var/cache/cnf-tests"))
"""Where the machines stand, and what debootstrap made of each suite, for the next time."""

CHECKOUT: Final = Path(__file__).parents[2]
PACKAGES: Final = "fail2ban"
"""What runs beside the daemon on a machine, started by the tests that need it."""
HOME: Final = "/opt/cnf"
"""Where a machine has its copy of the checkout: the unit file expects it there."""

CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED_ON: Final = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
"""What leads from this machine's environment to the registries."""

NSPAWN: Final = (
    "systemd-nspawn",
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--capability=all",
    "--system-call-filter=bpf perf_event_open",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
    "--console=pipe",
)
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
LIMIT, SET_UP_LIMIT = 90.0, 900.0
"""Seconds for a boot, a command in a machine, or a shutdown; and for each step of making one."""


class MachineError(Exception):
    """A machine was not made, or not booted."""


class Machine:
    """A booted machine."""

    def __init__(self, init: int) -> None:
        """Take the process id that its PID 1 has on this machine."""
        self.init = init
        self._enter = ("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")

    def try_to(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root and return what became of it."""
        command = (*self._enter, *command)
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )

    def run(self, *command: str) -> str:
        """Run a command that must succeed, as root, and return its output."""
        done = self.try_to(*command)
        assert done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file, in a folder that is made if it has to be."""
        script = 'mkdir -p "$(dirname "$0")" && printf %s "$1" >"$0"'
        self.run("sh", "-c", script, path, text)


def lacking() -> str:
    """Return why no machine can be made here; "" if it can."""
    for ability in ("root", "bpf"):
        if reason := abilities.lacking(ability):
            return reason
    if missing := [tool for tool in ("debootstrap", "systemd-nspawn") if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} missing (apt-get install debootstrap systemd-container)"
    with tempfile.TemporaryDirectory(prefix="cnf-t-") as folder:
        root = Path(folder)
        (root / "usr").mkdir()
        for link in (path for path in Path("/").iterdir() if path.is_symlink()):  # /bin, /lib, ...: into /usr
            (root / link.name).symlink_to(link.readlink())
        command = (*NSPAWN, "-D", str(root), "--private-network", "--bind-ro=/usr", "--as-pid2", "/bin/true")
        tried = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return f"systemd-nspawn cannot start a container here: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def set_up(suite: str) -> Iterator[Path]:
    """Make a machine of ``suite`` with the checkout in HOME, run deploy/setup.sh there, and give its root folder."""
    base = _base(suite)
    root = Path(tempfile.mkdtemp(prefix=f"{suite}-", dir=CACHE))
    try:
        _succeed("cp", "-a", "--reflink=auto", f"{base}/.", str(root))
        for path in (Path("/etc/resolv.conf"), CERTIFICATES):
            copy = root / path.relative_to("/")
            copy.unlink(missing_ok=True)
            if path.exists():
                shutil.copyfile(path, copy)
        leave_out = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(CHECKOUT, root / HOME.lstrip("/"), ignore=leave_out)
        certificates = {name: str(CERTIFICATES) for name in ("PIP_CERT", "SSL_CERT_FILE")}
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables = [f"--setenv={name}={value}" for name, value in (certificates | passed_on).items()]
        steps = f"sh deploy/setup.sh && apt-get -q -y install --no-install-recommends {PACKAGES}"
        steps += f" && systemctl disable {PACKAGES}"
        _succeed(*NSPAWN, "-D", str(root), "--as-pid2", f"--chdir={HOME}", *variables, "sh", "-c", steps)
        yield root
    finally:
        _succeed("rm", "-rf", "--one-file-system", str(root))


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the machine in ``root``, and shut it down in the end."""
    console, address = root.with_suffix(".console"), root.with_suffix(".notify")
    command = (*NSPAWN, "-D", str(root), "--boot", "--private-network", "--notify-ready=yes")
    environment = os.environ | {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1", "NOTIFY_SOCKET": str(address)}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications, console.open("wb") as output:
            notifications.bind(str(address))
            nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
            try:
                machine = Machine(_init(nspawn, notifications, console))
                notifications.close()  # open, but read by nobody, it would fill up and hold up the machine's systemd
                # A real machine's systemd mounts it; a container's leaves that to whoever made the container.
                machine.run("sh", "-c", "mkdir -p /sys/fs/bpf && mount -t bpf -o mode=700 bpf /sys/fs/bpf")
                yield machine
            finally:
                _shut_down(nspawn)
    finally:
        for path in (console, address):
            path.unlink(missing_ok=True)


def _base(suite: str) -> Path:
    """Return the folder with what debootstrap made of ``suite``, now or before."""
    CACHE.mkdir(parents=True, exist_ok=True)
    base = CACHE / suite
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.exists():
            unfinished = CACHE / f"{suite}.unfinished"
            _succeed("rm", "-rf", "--one-file-system", str(unfinished))
            packages = "systemd,systemd-sysv,ca-certificates"
            _succeed("debootstrap", "--variant=minbase", f"--include={packages}", suite, str(unfinished))
            unfinished.rename(base)
    return base


def _init(nspawn: subprocess.Popen[bytes], notifications: socket.socket, console: Path) -> int:
    """Wait until the machine has booted, as systemd-nspawn notifies, and return its PID 1."""
    ended = os.pidfd_open(nspawn.pid)
    deadline = time.monotonic() + LIMIT
    told = ""
    try:
        while not ("READY=1" in told and "X_NSPAWN_LEADER_PID=" in told):
            waited_for = [notifications.fileno(), ended]
            readable, _, _ = select.select(waited_for, [], [], max(0, deadline - time.monotonic()))
            if notifications.fileno() not in readable:
                last = console.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
                raise MachineError("the machine did not boot:\n" + "\n".join(last))
            told += notifications.recv(4096).decode() + "\n"
    finally:
        os.close(ended)
    (init,) = set(re.findall(r"^X_NSPAWN_LEADER_PID=(\d+)$", told, re.MULTILINE))
    return int(init)


def _shut_down(nspawn: subprocess.Popen[bytes]) -> None:
    nspawn.terminate()  # asks the machine's systemd for an orderly shutdown
    try:
        nspawn.wait(LIMIT)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        raise


def _succeed(*command: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SET_UP_LIMIT, check=False
    )
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise MachineError(f"{' '.join(command)}: exit status {done.returncode}\n{last}")
