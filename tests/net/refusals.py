"""A cnfd for whose main thread the kernel refuses one system call from a certain moment on, by seccomp(2)."""

from __future__ import annotations

import ctypes
import errno
import inspect
import struct
import sys
from collections.abc import Sequence
from typing import Final

# linux/bpf.h: commands of bpf(2)
BPF_MAP_LOOKUP_ELEM: Final = 1
BPF_MAP_UPDATE_ELEM: Final = 2
BPF_PROG_TEST_RUN: Final = 10

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS; BPF_JMP | BPF_JEQ | BPF_K; BPF_RET | BPF_K


def refuse(call: int, argument: int = -1) -> None:
    """Have this thread get ENOMEM for a system call; if ``argument`` is given, with that as its first alone."""
    # struct seccomp_data: the call's number at 0, the lower half of its first argument at 16
    filters = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, call), (LOAD, 0, 0, 16), (EQUAL, 0, 1, argument)]
    if argument < 0:
        filters = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, call)]
    filters += [(RETURN, 0, 0, 0x00050000 | errno.ENOMEM), (RETURN, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in filters))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filters), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


_REFUSE: Final = f"""
import ctypes, errno, logging, struct, sys
from cnf.cnfd import main

event, call, argument = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
make = logging.getLogRecordFactory()
LOAD, EQUAL, RETURN = {LOAD}, {EQUAL}, {RETURN}

{inspect.getsource(refuse)}

def record(*arguments, **more):
    made = make(*arguments, **more)
    if isinstance(made.msg, dict) and made.msg["event"] == event:
        logging.setLogRecordFactory(make)
        refuse(call, argument)
    return made

logging.setLogRecordFactory(record)
sys.exit(main())
"""


def refusing(event: str, call: int, argument: int = -1) -> Sequence[str]:
    """Return the command of a cnfd that gets ENOMEM for the system call of a number as soon as it logs ``event``.

    Of these only with ``argument`` as their first, if that is given. What has been logged is a record still to be
    written, so ``call`` must not be one that writes.
    """
    return (sys.executable, "-P", "-c", _REFUSE, event, str(call), str(argument))
