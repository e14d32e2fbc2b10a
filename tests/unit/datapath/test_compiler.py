"""Whatever becomes of the compiling child, its end is one line that a person can act on, with the log behind it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnf.datapath.compiler import Compiler
from cnf.errors import CnfError, CompileError, KernelError, UnavailableError

CLANG = """\
In file included from <built-in>:2:
warning: a warning that is not the reason
parse.h:229:39: error: use of undeclared identifier 'icmp_protocl'; did you mean 'icmp_protocol'?
        int label = protocol_label(protocol, icmp_protocl), error = 0
                                             ^~~~~~~~~~~~
parse.h:229:63: error: expected ';' at end of declaration
2 errors generated.
"""
NO_HEADER = """\
flow.c:10:10: fatal error: 'nosuch.h' file not found
#include <nosuch.h>
         ^~~~~~~~~~
1 error generated.
"""
NO_MAP = "could not open bpf map: flows6, error: Argument list too long\n"
End = Callable[..., CnfError]


@pytest.fixture
def end_of(tmp_path: Path) -> End:
    """Return a function that lets a child write ``log``, answer ``answer`` and run ``then``, and returns the error."""

    def run(log: str = "", answer: dict[str, Any] | None = None, then: str = "") -> CnfError:
        (tmp_path / "log").write_text(log)
        lines = ["#!/bin/sh", f"cat {shlex.quote(str(tmp_path / 'log'))} >&2"]
        if answer is not None:
            lines.append(f"printf %s {shlex.quote(json.dumps(answer))} >&0")
        child = tmp_path / "child"
        child.write_text("\n".join([*lines, then, ""]))
        child.chmod(0o755)
        descriptors = set(Path("/proc/self/fd").iterdir())
        with pytest.raises(CnfError) as end, Compiler(str(child)).compile({"maps": []}):
            pass
        assert set(Path("/proc/self/fd").iterdir()) == descriptors, "a descriptor was left open"
        assert "\n" not in str(end.value)
        return end.value

    return run


def test_a_compiler_error_is_the_first_that_clang_gave(end_of: End) -> None:
    """Later errors follow from the first; the rest of the log is counted, and kept for the debug log."""
    error = end_of(CLANG, {"error": "compile", "message": "Failed to compile BPF module <text>"})

    assert type(error) is CompileError
    assert str(error) == (
        "flow.c did not compile: parse.h:229:39: error: use of undeclared identifier 'icmp_protocl'; did you mean"
        " 'icmp_protocol'? (6 lines omitted; log level debug shows them)"
    )
    assert error.details == CLANG


def test_a_missing_header_is_named(end_of: End) -> None:
    """A fatal error counts as one."""
    error = end_of(NO_HEADER, {"error": "compile", "message": "Failed to compile BPF module <text>"})

    assert type(error) is CompileError
    assert "flow.c:10:10: fatal error: 'nosuch.h' file not found (3 lines omitted" in str(error)


def test_without_a_log_the_message_is_all_there_is(end_of: End) -> None:
    """What BCC raised is shown when the compiler wrote nothing."""
    error = end_of("", {"error": "compile", "message": "[Errno 2] No such file or directory: 'gone.h'"})

    assert type(error) is CompileError
    assert "[Errno 2] No such file or directory: 'gone.h'" in str(error)


def test_a_map_that_the_kernel_refuses_is_named_with_its_words(end_of: End) -> None:
    """A map too large for the machine is not a fault of the source; the setting to lower is named."""
    error = end_of(NO_MAP, {"error": "compile", "message": "Failed to compile BPF module <text>"})

    assert type(error) is KernelError
    assert "flows6, error: Argument list too long" in str(error)
    assert "max_entries" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"error": "bcc_missing", "message": "No module named 'bcc'"}, ["No module named 'bcc'", "python3-bpfcc"]),
        ({"error": "bcc_wrong", "message": "/x/bcc/__init__.py"}, ["/x/bcc/__init__.py", "pip uninstall bcc"]),
    ],
)
def test_bcc_that_is_missing_or_another_package_comes_with_its_remedy(
    end_of: End, answer: dict[str, str], words: list[str]
) -> None:
    """The package to install, or to remove first, is named."""
    error = end_of("", answer)

    assert type(error) is UnavailableError
    assert all(word in str(error) for word in words)


@pytest.mark.parametrize(
    ("log", "then", "words"),
    [
        (
            "Traceback ...\nModuleNotFoundError: No module named 'cnf'\n",
            "exit 1",
            ["status 1", "No module named 'cnf'"],
        ),
        ("", "exit 3", ["status 3", "no output"]),
        ("", "kill -SEGV $$", ["status -11", "no output"]),
        (
            "LLVM ERROR: out of memory\n",
            "kill -KILL $$",
            ["status -9", "lack of memory", "cnfctl doctor"],
        ),
    ],
)
def test_a_child_that_dies_is_reported_with_its_last_words(end_of: End, log: str, then: str, words: list[str]) -> None:
    """Nobody waits for an answer that will not come."""
    error = end_of(log, None, then)

    assert type(error) is (KernelError if "KILL" in then else UnavailableError)
    assert all(word in str(error) for word in words)
    assert error.details == log


def test_a_log_that_is_not_text_does_no_harm(end_of: End, tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are shown with backslashes."""
    (tmp_path / "raw").write_bytes(b"bad \xff byte\n")
    error = end_of("", None, f"cat {shlex.quote(str(tmp_path / 'raw'))} >&2; exit 1")

    assert "bad \\xff byte" in str(error)
