"""deploy/demo.sh on a machine of each suite."""

from __future__ import annotations

from tests.system.machine import HOME, Machine

DEMO = f"{HOME}/deploy/demo.sh"


def test_demo(machine: Machine) -> None:
    """The demo counts to the packet, takes everything away, and says of each thing that it is gone."""
    output = machine.run("sh", DEMO)
    counts = output.partition("SENT     COUNTED\n")[2].partition("\n\n")[0].splitlines()
    assert len(counts) == 10
    assert "differs" not in output
    assert "LEFT BEHIND" not in output
    assert output.count("\ngone: ") == 5
    assert machine.run("ip", "netns", "list") == ""


def test_demo_can_be_kept(machine: Machine) -> None:
    """``--keep`` leaves it running with its traffic, and the command that it prints stops it."""
    output = machine.run("sh", DEMO, "--keep")
    *_, stop = output.split("sh deploy/demo.sh --stop ")
    assert machine.run("ip", "netns", "pids", f"{stop.strip()}-node") != ""
    machine.run("sh", DEMO, "--stop", stop.strip())
    assert machine.run("ip", "netns", "list") == ""


def test_demo_needs_root(machine: Machine) -> None:
    """Anybody but root is told so in one line, with the status for a missing privilege."""
    refused = machine.try_to("setpriv", "--reuid=65534", "sh", DEMO)
    assert (refused.returncode, refused.stdout) == (77, "")
    assert refused.stderr == "deploy/demo.sh: must run as root: sudo sh deploy/demo.sh\n"
