"""deploy/completions.py: what TAB offers after which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
COMPLETE: Final = """
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_$1
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder share with the completions."""
    folder = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, ROOT / "deploy/completions.py", folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cnfctl", "fl"], "flows"),
        (["cnfctl", "flows", "--so"], "--sort"),
        (["cnfctl", "flows", "--sort", "b"], "bytes bits_per_second bps"),
        (["cnfctl", "limits", "mode", "en"], "enforce"),
        (["cnfctl", "doctor", "--interface", "lo"], "lo"),
        (["cnfd", "--config", "/etc/hostna"], "/etc/hostname"),
    ],
)
def test_bash(folder: Path, words: list[str], offered: str) -> None:
    """Bash offers commands, options, choices, fields, interfaces and files."""
    completion = folder / "bash-completion/completions" / words[0]
    command = ["bash", "-c", COMPLETE, "-", str(completion), *words]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert completed.stdout.split() == offered.split()


@pytest.mark.parametrize("name", ["zsh/site-functions/_{}", "fish/vendor_completions.d/{}.fish"])
@pytest.mark.parametrize("command", ["cnfctl", "cnfd"])
def test_other_shells(folder: Path, name: str, command: str) -> None:
    """Zsh and fish find a completion of each command, which offers its options."""
    assert "version" in (folder / name.format(command)).read_text(encoding="utf-8")
