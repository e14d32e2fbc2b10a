"""Programs in the kernel, by their ids."""

from __future__ import annotations

import ctypes
import os


def is_loaded(program: int) -> bool:
    """Tell whether the kernel still has the program with this id; needs CAP_SYS_ADMIN."""
    descriptor = ctypes.CDLL("libbpf.so.1").bpf_prog_get_fd_by_id(ctypes.c_uint32(program))
    if descriptor < 0:
        return False
    os.close(descriptor)
    return True
