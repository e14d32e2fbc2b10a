"""The kernels of Debian's releases: had by apt, whatever release this machine is, and unpacked, not installed."""

from __future__ import annotations

import fcntl
import gzip
import lzma
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.system.machine import CACHE

SUITES: Final = {"6.1": "bookworm", "6.12": "trixie"}
"""Kernel -> the release that it is the kernel of."""

INIT: Final = Path(__file__).with_name("init.sh")
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES: Final = """\
deb [signed-by={keyring} arch=amd64] http://deb.debian.org/debian {suite} main
deb [signed-by={keyring} arch=amd64] http://deb.debian.org/debian-security {suite}-security main
"""
MODULES: Final = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""What the initial RAM disk needs to have this machine's files as its root."""
TOOLS: Final = ("sh", "mount", "insmod", "mkdir", "sed", "switch_root")
"""What it runs of busybox."""
FOLDERS: Final = ("bin", "modules", "proc", "dev", "files", "changes", "root")
LIMIT: Final = 600.0
"""Seconds for each step of having a kernel."""


class KernelError(Exception):
    """A kernel was not had, or did not boot."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted."""

    image: Path
    initrd: Path
    modules: Path


def kernel(name: str) -> Kernel:
    """Return a kernel of SUITES; the first time, have it. Raises KernelError."""
    folder = CACHE / f"linux-{name}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"linux-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix="linux-", dir=CACHE) as unfinished:
                _make(name, Path(unfinished, "made"))
                Path(unfinished, "made").rename(folder)
    (image,) = folder.glob("boot/vmlinuz-*")
    (modules,) = _base(folder).glob("lib/modules/*")
    return Kernel(image, folder / "initrd", modules)


def _base(folder: Path) -> Path:
    """Return where a package has its lib/: from Debian 13 on below usr/."""
    return folder if (folder / "lib").exists() else folder / "usr"


def _make(name: str, folder: Path) -> None:
    """Unpack the newest kernel of a release into ``folder``, and make its initial RAM disk."""
    package = _download(SUITES[name], folder.parent)
    version = package.name.removeprefix("linux-image-").partition("_")[0]
    if not version.startswith(f"{name}."):
        raise KernelError(f"Debian {SUITES[name]} has {version} as its kernel, and not {name}")
    run("dpkg", "--extract", str(package), str(folder))
    run("depmod", "-b", str(_base(folder)), version)
    tree = folder.parent / "tree"
    for each in FOLDERS:
        (tree / each).mkdir(parents=True)
    shutil.copyfile(INIT, tree / "init")
    (tree / "init").chmod(0o755)
    shutil.copy(found("busybox"), tree / "bin")
    for tool in TOOLS:
        (tree / "bin" / tool).symlink_to("busybox")
    for number, module in enumerate(_modules(_base(folder), version), start=100):
        content = module.read_bytes()
        unpacked = lzma.decompress(content) if module.suffix == ".xz" else content
        (tree / "modules" / f"{number}-{module.name.removesuffix('.xz')}").write_bytes(unpacked)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    archive = run("busybox", "cpio", "-o", "-H", "newc", cwd=tree, given=names.encode())
    (folder / "initrd").write_bytes(gzip.compress(archive, 1))


def _download(suite: str, folder: Path) -> Path:
    """Download the package that a release's linux-image-amd64 depends on; this machine's own apt stays as it is."""
    (folder / "sources.list").write_text(SOURCES.format(keyring=KEYRING, suite=suite), encoding="ascii")
    for each in ("lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
    }
    options = [f"--option={key}={value}" for key, value in settings.items()]
    run("apt-get", *options, "--quiet", "update")
    depends = run("apt-cache", *options, "depends", "linux-image-amd64").decode()
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if not package:
        raise KernelError(f"linux-image-amd64 of Debian {suite} depends on no kernel: {depends}")
    run("apt-get", *options, "--quiet", "download", package[1], cwd=folder)
    (file,) = folder.glob("*.deb")
    return file


def _modules(base: Path, version: str) -> list[Path]:
    """Return the files of MODULES and of what they depend on, in the order to load them in."""
    files: dict[str, None] = {}
    for module in MODULES:
        shown = run("modprobe", "-d", str(base), "-S", version, "--show-depends", module).decode()
        files |= dict.fromkeys(re.findall(r"^insmod (\S+)", shown, re.MULTILINE))
    return [Path(file) for file in files]


def found(tool: str) -> str:
    """Return the path of a tool that is installed. Raises KernelError."""
    path = shutil.which(tool, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise KernelError(f"{tool} is missing (sudo sh deploy/setup.sh --dev)")
    return path


def run(tool: str, *arguments: str, cwd: Path | None = None, given: bytes = b"") -> bytes:
    """Run a command that must succeed and return its output. Raises KernelError."""
    done = subprocess.run(
        (found(tool), *arguments), cwd=cwd, input=given, capture_output=True, timeout=LIMIT, check=False
    )
    if done.returncode != 0:
        last = b"\n".join((done.stdout + done.stderr).splitlines()[-20:]).decode(errors="replace")
        raise KernelError(f"{tool} {' '.join(arguments)}: exit status {done.returncode}\n{last}")
    return done.stdout
