"""The arguments of ``cnfctl capture``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Final

from cnf.cli.arguments import positive

SNAPLEN: Final = 128
BUDGET: Final = 1000

_EXAMPLES: Final = """\
examples:
  cnfctl capture                               all packets, until Ctrl-C
  cnfctl capture --dropped -c 3                three drops, and why
  cnfctl capture 'port 53' -s 512 -w a.pcapng  a file for Wireshark
  cnfctl capture --dropped -w - | tshark -r -  live
"""


def add_capture(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command."""
    capture = add_parser(
        "capture",
        help="packets with their verdicts, what is dropped too: as lines, or pcapng",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    capture.add_argument("expression", metavar="EXPR", nargs="*", help="as in flows --filter: 'src net 10.0.0.0/8'")
    which = capture.add_mutually_exclusive_group()
    for word, text in (
        ("dropped", "what was dropped: over a limit, denied, or unreadable"),
        ("limited", "what was over a limit, dropped or not"),
        ("would", "what passed and would be dropped, if what only counts were in mode enforce"),
    ):
        which.add_argument(
            f"--{word}", dest="which", action="store_const", const=word, default="all", help=f"only {text}"
        )
    capture.add_argument("-c", "--count", metavar="N", type=positive, help="end after N packets")
    capture.add_argument(
        "-s",
        "--snaplen",
        metavar="BYTES",
        type=positive,
        default=SNAPLEN,
        help="of each packet, 2048 at most (default: %(default)s)",
    )
    capture.add_argument(
        "--budget",
        metavar="N",
        type=positive,
        default=BUDGET,
        help="packets a second that are copied; the others are counted (default: %(default)s)",
    )
    output = capture.add_mutually_exclusive_group()
    output.add_argument("-w", "--write", metavar="FILE", help="write pcapng into a file; - is stdout")
    output.add_argument("-o", "--output", choices=("table", "jsonl"), default="table")
    capture.add_argument("--end", action="store_true", help="end the capture that somebody has begun")
    capture.set_defaults(run=lambda arguments: import_module("cnf.cli.capture.command").run(arguments))
