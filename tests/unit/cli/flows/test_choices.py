"""What each key changes while flows are watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnf.cli.flows.choices import HELP, PAIRS, Choices, pressed

START = Choices("rate")
INTERFACES = ("eth0", "eth1")


def after(keys: str, choices: Choices = START) -> Choices:
    """Return the choices after some keys, none of which quits."""
    chosen = pressed(choices, keys, INTERFACES)
    assert chosen is not None
    return chosen


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        (">", {"sort": "pps"}),
        (">>", {"sort": "bytes"}),
        ("<", {"sort": "dropped_packets"}),
        ("g", {"way": PAIRS}),
        ("gg", {"way": "src"}),
        ("gg>>", {"way": "src", "sort": "flows"}),
        ("gG", {}),
        ("i", {"interface": "eth0"}),
        ("iii", {}),
        ("I", {"interface": "eth1"}),
        ("u", {"octets": True}),
        (" ", {"paused": True}),
        ("  ", {}),
        ("?", {"help": True}),
        ("/", {"typed": ""}),
        ("/tcp\r", {"filter": "tcp"}),
        ("/port 5\x7f8\n", {"filter": "port 8"}),
        ("/ud\x15q?\r", {"filter": "q?"}),
        ("/tcp\x1b", {}),
        ("/tcp\r/\x15 \r", {}),
        ("/tc\x1b[Ap\r", {"filter": "tcp"}),
        ("\x1b[A\x1b[1;5C\x1bOPx", {}),
    ],
)
def test_keys(keys: str, changes: dict[str, object]) -> None:
    """A key changes what it is for, and nothing else; arrows and unknown keys change nothing."""
    assert after(keys) == replace(START, **changes)  # type: ignore[arg-type] # the names are those of fields


def test_the_help_of_the_keys_is_not_cut() -> None:
    """In a terminal of 80 columns, beside the keys."""
    assert [meaning for _, meaning in HELP if len(meaning) > 80 - len("  < >      ")] == []


def test_q_quits_unless_a_filter_is_being_typed() -> None:
    """Whatever comes behind it."""
    assert pressed(START, "uq ", INTERFACES) is None
    assert pressed(START, "Q", INTERFACES) is None


def test_flows_by_themselves_have_no_number_of_flows_to_be_sorted_by() -> None:
    """Groups that were sorted by it are followed by what goes on now."""
    assert after("g", replace(START, way="interface", sort="flows")) == replace(START, way=None)


def test_grouping_of_the_command_line_is_in_the_round() -> None:
    """Whoever went on from it comes back to it."""
    begun = replace(START, way="src,port", custom="src,port")
    assert after("g", begun).way is None
    assert after("gG", begun) == begun


@pytest.mark.parametrize(
    ("expression", "interface", "expected"),
    [
        (None, None, None),
        ("tcp or udp", None, "tcp or udp"),
        (None, "eth0", "iface eth0"),
        ("tcp or udp", "eth0", "(tcp or udp) and iface eth0"),
        (" ", "eth0", "iface eth0"),
    ],
)
def test_filter_and_interface_make_one_filter(expression: str | None, interface: str | None, expected: str) -> None:
    """``or`` of the filter does not reach beyond it."""
    assert replace(START, filter=expression, interface=interface).expression == expected
