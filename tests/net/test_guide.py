"""What docs/guide.md has its reader type works, from the first line to the last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.net.conftest import Node
from tests.net.daemon import NOT_OVER_SSH
from tests.net.wait import PATIENCE, SLOWNESS

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guide.md"
BLOCK: Final = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
TIME: Final = re.compile(r"(?<=sleep )\d+|(?<=--confirm )\d+")
DROPPED: Final = re.compile(
    r" lab0 in  udp 198\.51\.100\.\d+:\d+ > 192\.0\.2\.1:70\d\d, 142 B"
    r"  dropped, denied: limits\.deny 198\.51\.100\.0/24$",
    re.MULTILINE,
)
CAPTURED: Final = 3

PRELUDE: Final = """\
command -v curl >/dev/null ||
    curl() { python3 -c 'import sys, urllib.request as web; print(web.urlopen(sys.argv[2]).read().decode())' "$@"; }
set -eux -o pipefail
"""
"""A minimal system has no curl. Each command is shown as it is run, and one that fails is the last."""
PRIVATE: Final = 'mount -t tmpfs cnf-tests /run && exec bash -c "$1"'
"""The guide's socket and namespace have the names that every reader gives them: they are this test's own here."""


def typed(node: Node) -> str:
    """Type all commands of the guide into one shell of the node, and return what it shows."""
    commands = TIME.sub(
        lambda seconds: f"{SLOWNESS * int(seconds[0]):.0f}", "".join(BLOCK.findall(GUIDE.read_text(encoding="utf-8")))
    )
    done = subprocess.run(
        (*node.inside.enter, "unshare", "--mount", "sh", "-ec", PRIVATE, "sh", PRELUDE + commands),
        cwd=GUIDE.parents[1],
        env={**os.environ, **NOT_OVER_SSH, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def outputs(shown: str, command: str) -> list[str]:
    """Return what ``command`` printed, each time that it ran."""
    return re.findall(rf"^\+ {re.escape(command)}\n((?:(?!\+ ).*\n)*)", shown, re.MULTILINE)


def test_every_command_of_the_guide_works(node: Node) -> None:
    """The commands find the flood, hold its source back, undo what nobody confirms, and leave nothing."""
    shown = typed(node)

    for command in ("cnfctl flows --top 5", "cnfctl flows --top 5 --sort packets"):
        (flows,) = outputs(shown, command)
        assert flows.splitlines()[1].startswith("192.0.2.66:5300")
    (groups,) = outputs(shown, "cnfctl flows --by src-net/24,dst --sort flows --top 3")
    assert re.match(r"198\.51\.100\.0/24 +192\.0\.2\.1 +10\.2k ", groups.splitlines()[1])
    (denied,) = outputs(shown, "cnfctl limits deny")
    assert re.match(r"198\.51\.100\.0/24 +runtime +\S+ +10\.2k ", denied.splitlines()[1])
    (explained,) = outputs(shown, "cnfctl limits explain 198.51.100.77")
    assert "198.51.100.0/24 is denied (at run time, for another " in " ".join(explained.split())
    assert len(DROPPED.findall(shown)) == CAPTURED
    assert "\ncnfctl: 5 packets captured; " in shown
    in_shadow, enforced = outputs(shown, "cnfctl limits sources --top 3")
    assert " DROPPED" not in in_shadow
    assert re.search(r"^192\.0\.2\.66 +noisy +\S+ .* 19\.[0-9]k ", enforced, re.MULTILINE)
    _, changed = outputs(shown, "cnfctl limits explain 192.0.2.66 --protocol udp")
    _, undone = outputs(shown, "cnfctl limits")
    assert "500 packets/s" in changed
    assert "100 packets/s" in undone
    _, status = outputs(shown, "cnfctl status")[-2:]
    assert re.search(r"^lab1 +attached +generic", status, re.MULTILINE)
    assert outputs(shown, "curl -s http://127.0.0.1:9995/readyz") == ["ready\n"]
    assert node.inside.links().keys() == {"lo"}
