"""A captured packet as a line of text."""

from __future__ import annotations

from typing import Any

import pytest

from cnf.cli.capture.lines import frame_line
from cnf.cli.show.table import Style
from tests.unit.cli.capture.test_command import FRAME

NOWHERE = dict.fromkeys(("protocol", "src_addr", "src_port", "dst_addr", "dst_port", "fragment"))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"verdict": "passed", "reason": None}, "192.0.2.1:4000 > 192.0.2.2:53, 60 B  passed"),
        ({"verdict": "would_drop", "reason": "rule dns"}, "passed, would be dropped: rule dns"),
        ({"verdict": "limited", "reason": None}, "dropped, over the limit"),
        (
            {"vlan": 7, "fragment": True, "direction": "egress"},
            "eth0 out  udp 192.0.2.1 > 192.0.2.2 vlan 7 fragment, ",
        ),
        ({"packets": 1200, "length": 65_000}, "65.0 kB in 1,200 packets"),
        ({**NOWHERE, "kind": "non_ip"}, "eth0 in  non ip, 60 B"),
        ({"interface": "a\x1bb"}, r"a\x1bb in"),
    ],
)
def test_a_packet(fields: dict[str, Any], shown: str) -> None:
    """It says where, who to whom, how long, and the verdict with its reason."""
    frame: Any = {**FRAME, **fields}
    assert shown in frame_line(frame, Style(coloured=False))
