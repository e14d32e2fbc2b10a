"""What the benchmarks ask of the kernel beyond the daemon's needs."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from cnf.kernel import libbpf

BPF_F_TEST_XDP_LIVE_FRAMES: Final = 2  # linux/bpf.h
CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
LIVE_BATCH: Final = 64


class XdpMd(ctypes.Structure):
    """``struct xdp_md`` of linux/bpf.h."""

    _fields_ = (
        ("data", ctypes.c_uint32),
        ("data_end", ctypes.c_uint32),
        ("data_meta", ctypes.c_uint32),
        ("ingress_ifindex", ctypes.c_uint32),
        ("rx_queue_index", ctypes.c_uint32),
        ("egress_ifindex", ctypes.c_uint32),
    )


def send_live(fd: int, frame: bytes, count: int) -> None:
    """Send ``count`` frames wherever the program behind ``fd`` redirects them."""
    data = ctypes.create_string_buffer(frame, len(frame))
    context = XdpMd(data_end=len(frame))
    opts = libbpf.TestRunOpts(
        sz=ctypes.sizeof(libbpf.TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=ctypes.sizeof(context),
        repeat=count,
        flags=BPF_F_TEST_XDP_LIVE_FRAMES,
        batch_size=LIVE_BATCH,
    )
    _check(libbpf.library().bpf_prog_test_run_opts(fd, ctypes.byref(opts)))


def leave_network() -> None:
    """Go on in a new network namespace; it ends with this process, and takes every interface in it along."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        _check(-ctypes.get_errno())


def _check(status: int) -> int:
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return status
