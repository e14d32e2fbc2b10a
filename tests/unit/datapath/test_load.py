"""A program that the kernel rejects is one line that a person can act on, with the verifier's log behind it."""

from __future__ import annotations

import errno
import os

import pytest

from cnf.datapath.load import load
from cnf.datapath.program import Function, Program
from cnf.errors import KernelError, VerifierError
from cnf.kernel import capabilities, libbpf
from cnf.kernel.libbpf import MapKind

VERIFIER = """\
0: R1=ctx() R10=fp0
;  @ flow.c:63
1: (85) call bpf_jiffies64#118        ; R0=scalar()
2: (7b) *(u64 *)(r6 +0) = r0
invalid access to packet, off=0 size=8, R6(id=0,off=0,r=0)
R6 offset is outside of the packet
processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

"""
TOO_LARGE = """\
BPF program is too large. Processed 1000001 insn
processed 1000001 insns (limit 1000000) max_states_per_insn 4 total_states 9 peak_states 9 mark_read 1
"""


def rejected(monkeypatch: pytest.MonkeyPatch, log: str) -> VerifierError:
    """Return what becomes of a rejection with this log."""

    def reject(_name: str, _type: int, _code: bytes) -> int:
        error = libbpf.RejectedError(errno.EACCES, "Permission denied")
        error.log = log
        raise error

    monkeypatch.setattr(libbpf, "load_program", reject)
    with pytest.raises(VerifierError) as caught:
        load(Program("", {}, {}, {"cnf_ingress": Function(6, b"", [])}), {}, (), None)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("log", "last", "omitted"),
    [
        (VERIFIER, "R6 offset is outside of the packet", 5),
        (TOO_LARGE, "BPF program is too large. Processed 1000001 insn", 0),
        ("", "no log", 0),
    ],
)
def test_a_rejection_is_the_verifiers_last_useful_line(
    monkeypatch: pytest.MonkeyPatch, log: str, last: str, omitted: int
) -> None:
    """Its statistics are left out; the whole log is there for the debug log."""
    monkeypatch.setattr(capabilities, "missing", lambda *_wanted: ())
    error = rejected(monkeypatch, log)

    assert str(error) == (
        f"the kernel rejected the program: cnf_ingress: Permission denied: {last}"
        f" ({omitted} lines omitted; log level debug shows them)"
    )
    assert error.details == log


def test_a_rejection_names_the_capability_that_may_be_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CAP_PERFMON, older kernels refuse what newer ones take."""
    monkeypatch.setattr(capabilities, "missing", tuple)  # of those asked for, all
    error = rejected(monkeypatch, TOO_LARGE)

    assert f"Processed 1000001 insn ({capabilities.refused()}; 0 lines omitted" in str(error)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "LimitNOFILE="), (errno.EPERM, "seccomp"), (errno.E2BIG, "max_entries")]
)
def test_a_map_that_the_kernel_refuses_is_named(monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    """With the kernel's words, and the setting to change."""

    def refuse(_name: str, _kind: MapKind) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(libbpf, "make_map", refuse)
    with pytest.raises(KernelError, match=rf"made no map flows4: {os.strerror(number)} \(.*{remedy}"):
        load(Program("", {}, {"flows4": MapKind(2, 4, 8, 1, 0)}, {}), {}, (), None)
