"""What a test may need of the machine, and a probe for each: so that a skip is never a guess."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests import seclusion
from tests.collectors import programs
from tests.net import cgroups

XDP: Final = 6  # BPF_PROG_TYPE_XDP, linux/bpf.h


def _root() -> str:
    return "" if os.geteuid() == 0 else "this is not root"


def _bpf() -> str:
    try:
        # 1: yes, 0: no, below: it cannot be found out
        answer = ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(XDP, None)
    except OSError as error:
        return f"libbpf is missing: {error}"
    return "" if answer == 1 else "the kernel, or the container around this, refuses to load XDP programs"


def _netns() -> str:
    command = ("unshare", "--net", "ip", "link", "add", "type", "veth")
    try:
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{error.filename} is missing"
    return f"no network namespace with a veth pair: {tried.stderr.strip()}" if tried.returncode else ""


def _no_perfmon() -> str:
    release = platform.release()
    old = tuple(map(int, re.findall(r"\d+", release)[:2])) < (6, 17)
    return f"Linux {release} takes limits with CAP_PERFMON only" if old else ""


def _tun() -> str:
    return "" if Path("/dev/net/tun").exists() else "there is no /dev/net/tun"


PROBES: Final[Mapping[str, Callable[[], str]]] = {
    "root": _root,
    "bpf": _bpf,
    "netns": _netns,
    "seclusion": seclusion.begin,
    "limits without CAP_PERFMON": _no_perfmon,
    "tun": _tun,
    "memory cgroup": cgroups.lacking,
    "collectors": programs.lacking,
}


@functools.cache
def lacking(ability: str) -> str:
    """Return why the machine does not have ``ability``, a key of PROBES; "" if it has it."""
    return PROBES[ability]()
