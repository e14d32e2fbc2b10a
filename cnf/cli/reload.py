"""``cnfctl reload``: let the daemon read its configuration again, and wait for the outcome."""

from __future__ import annotations

import argparse

from cnf.cli.api.client import Client
from cnf.units import printable


def run(arguments: argparse.Namespace) -> int:
    """Reload, print the source of the settings, and return the exit status. A refusal is the daemon's own line."""
    reply = Client(arguments.socket).reload()
    print(printable(f"reloaded {reply['source']}"))
    if reply["restart_only"]:
        print(f"change at a restart only: {', '.join(reply['restart_only'])}")
    return 0
