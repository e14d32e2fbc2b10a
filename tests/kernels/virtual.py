"""A virtual machine with another kernel over this machine's files, in which a command runs.

It emulates the processor, so that it runs wherever the tests do: ten to thirty times slower than the machine, which
is why nothing may be timed in there. It has two processors, no network, and nothing of it stays.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import abilities
from tests.kernels.debian import KernelError, found, kernel
from tests.system.machine import CACHE

CHECKOUT: Final = Path(__file__).parents[2]
INSIDE: Final = Path(__file__).with_name("inside.sh")
TOOLS: Final = ("qemu-system-x86_64", "busybox", "depmod", "dpkg", "apt-get", "stty")
MEMORY_MB: Final = 4096
STATUS: Final = "exit status "
"""How inside.sh begins its last line."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command."""

    status: int
    output: str


def lacking() -> str:
    """Return why no virtual machine can be had here; "" if it can."""
    if reason := abilities.lacking("root"):
        return reason
    if platform.machine() != "x86_64":
        return f"the kernels are those for x86-64, and this machine is {platform.machine()}"
    try:
        for tool in TOOLS:
            found(tool)
    except KernelError as error:
        return str(error)
    return ""


def run(
    name: str,
    command: Sequence[str],
    seconds: float,
    *,
    append: str = "",
    show: Callable[[str], object] | None = None,
) -> Ended:
    """Boot the kernel ``name``, run ``command`` in the checkout as root, and return what became of it.

    ``append`` is added to the kernel's command line; ``show`` is given each line of output as it comes. After
    ``seconds`` the machine is ended. Raises KernelError if the command has not ended by itself.
    """
    booted = kernel(name)
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as made:
        folder = Path(made)
        shutil.copy(INSIDE, folder)
        (folder / "modules").write_text(str(booted.modules), encoding="utf-8")
        script = f"cd {shlex.quote(str(CHECKOUT))} && {shlex.join(command)}\n"
        (folder / "command").write_text(script, encoding="utf-8")
        console = folder / "console"
        qemu = (
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", f"{MEMORY_MB}"),
            *("-display", "none", "-nic", "none", "-no-reboot", "-serial", f"file:{console}", "-serial", "stdio"),
            *("-kernel", str(booted.image), "-initrd", str(booted.initrd)),
            *("-append", f"console=ttyS0 panic=-1 cnf.folder={folder} {append}"),
            *("-fsdev", "local,id=files,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=files,mount_tag=files"),
        )
        lines = _followed(qemu, seconds, show)
        if not lines or not lines[-1].startswith(STATUS):
            last = console.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
            raise KernelError("\n".join((f"Linux {name} has not come to the end:", *lines[-20:], *last)))
    return Ended(int(lines.pop().removeprefix(STATUS)), "\n".join(lines))


def _followed(command: Sequence[str], seconds: float, show: Callable[[str], object] | None) -> list[str]:
    """Run a command for at most so long and return its lines of output."""
    lines = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        end = threading.Timer(seconds, process.kill)
        end.start()
        try:
            assert process.stdout
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if show and not lines[-1].startswith(STATUS):
                    show(lines[-1])
        finally:
            end.cancel()
            process.kill()
    return lines
