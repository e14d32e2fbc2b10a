"""The program and the daemon on the kernels of Debian's releases."""

from __future__ import annotations

import faulthandler
from collections.abc import Mapping

import pytest

from tests.kernels.conftest import Run
from tests.kernels.debian import SUITES


@pytest.mark.parametrize("name", SUITES)
def test_a_kernel_runs_what_is_chosen(name: str, runs: Mapping[str, Run]) -> None:
    """Programs load and count, forms are told apart, limits outlive a daemon; a hardened kernel loads them, too."""
    faulthandler.cancel_dump_traceback_later()  # pytest's: this takes minutes
    ended = runs[name].ended()
    assert ended.status == 0, ended.output
    assert ended.output.count(" passed") == 2, ended.output
