"""cnfctl: ask a running cnfd who is talking, who is limited and whether it is well, and change its limits.

Only the arguments are imported here, so that ``--help`` is instant. A command's module is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from cnf import VERSION
from cnf.cli.arguments import SORT_FIELDS, interval, positive, sort_field, whole
from cnf.cli.capture.arguments import add_capture
from cnf.cli.limits.arguments import add_limits
from cnf.cli.times import add_times
from cnf.errors import CnfError, UsageError

DEFAULT_SOCKET: Final = "/run/cnf/cnf.sock"

_EXAMPLES: Final = """\
examples:
  cnfctl flows                               the 20 largest flows
  cnfctl flows --watch                       who is talking now, like top
  cnfctl flows --by src --sort flows         who has most flows
  cnfctl flows --filter 'tcp and port 443'   filters are tcpdump's
  cnfctl flows --pairs --sort reverse_bytes  the largest answers first
  cnfctl flows -o csv > flows.csv            every flow, for a script
  cnfctl flows --at 03:12                    what there was at that time
  cnfctl events                              first drops, as they happen
  cnfctl capture --dropped -c 3              three drops, and why
  cnfctl export --follow --filter 'port 53'  flow records, as JSON lines
  cnfctl limits                              what each rule has dropped
  cnfctl limits explain 192.0.2.66           what happens to its packets
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run cnfctl with ``argv`` and return its exit status. Every error is one line on stderr."""
    if sys.stderr is None:  # descriptor 2 is closed, and print() would take stdout in its place
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if sys.stdout is None:  # descriptor 1 is closed
        return _fail("stdout is closed", os.EX_IOERR)
    try:
        try:
            arguments = parser().parse_args(argv)
            return int(arguments.run(arguments))
        finally:
            sys.stdout.flush()
    except CnfError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:  # a full disk or a lost terminal; errors of the socket are CnfErrors
        _discard_output()
        return _fail(f"{error.filename or 'the output'} cannot be written: {error.strerror}", os.EX_IOERR)


def _fail(message: str, status: int) -> int:
    printable = import_module("cnf.units").printable
    print(f"cnfctl: {printable(message)}", file=sys.stderr)
    return status


def _discard_output() -> None:
    """Point stdout at /dev/null, so that the interpreter's flush at exit does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        line = f"{message} (see {self.prog} --help)"
        raise UsageError(line)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    parser = _Parser(
        prog="cnfctl",
        description="Ask cnfd who is talking, who is limited and why, and whether it is well;\nchange its limits.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--socket", metavar="PATH", default=DEFAULT_SOCKET, help="cnfd's socket (default: %(default)s)")
    parser.add_argument("--version", action="version", version=f"cnfctl {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    flows = commands.add_parser("flows", help="the flows of the latest drain, largest first", allow_abbrev=False)
    flows.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help="how many (default: 20 in a table, a screenful when watched, else all)",
    )
    flows.add_argument(
        "--sort", metavar="FIELD", type=sort_field, help=f"bytes (default; rate with --watch), {', '.join(SORT_FIELDS)}"
    )
    flows.add_argument("--filter", metavar="EXPR", help="as in tcpdump: 'src net 10.0.0.0/8 and not port 22'")
    ways = flows.add_mutually_exclusive_group()
    ways.add_argument(
        "--by",
        metavar="WHAT",
        help="one row for all flows of a src, dst, pair, port, src-port, protocol, interface, direction, vlan, "
        "rule, net/24 (the destination's) or src-net/24; several with commas",
    )
    ways.add_argument("--pairs", action="store_true", help="both directions of a connection in one row")
    flows.add_argument(
        "--owner", action="store_true", help="the systemd unit, container or pod that has the socket on this node"
    )
    flows.add_argument("--names", action="store_true", help="the names of hosts, as far as they come within a second")
    flows.add_argument("-o", "--output", choices=("table", "json", "jsonl", "csv"), default="table")
    flows.add_argument(
        "--watch",
        metavar="SECONDS",
        type=interval,
        nargs="?",
        const=0.0,
        help="show again every SECONDS (default: at each drain); q ends it",
    )
    add_times(flows)
    flows.set_defaults(run=lambda arguments: import_module("cnf.cli.flows.command").run(arguments))

    status = commands.add_parser("status", help="daemon, interfaces, flow table, ledger and drain", allow_abbrev=False)
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    status.set_defaults(run=lambda arguments: import_module("cnf.cli.status").run(arguments))

    events = commands.add_parser(
        "events", help="first drops, new rule sets and evicted flows, as they happen", allow_abbrev=False
    )
    events.add_argument("-o", "--output", choices=("table", "json", "jsonl"), default="table")
    events.add_argument(
        "--since", metavar="SEQ", type=whole, help="begin after this event (default: with the latest 10); 0 for all"
    )
    events.set_defaults(run=lambda arguments: import_module("cnf.cli.events.command").run(arguments))

    export = commands.add_parser(
        "export", help="the latest flow records as JSON lines, and those to come", allow_abbrev=False
    )
    export.add_argument("--follow", action="store_true", help="go on with each record that is made")
    export.add_argument("--filter", metavar="EXPR", help="as in tcpdump: 'src net 10.0.0.0/8 and not port 22'")
    export.add_argument(
        "--since", metavar="SEQ", type=whole, help="begin after this record (default: with the first that is kept)"
    )
    export.add_argument("-o", "--output", choices=("jsonl",), default="jsonl")
    export.set_defaults(run=lambda arguments: import_module("cnf.cli.export.command").run(arguments))

    add_capture(commands.add_parser)
    add_limits(commands.add_parser)

    reload = commands.add_parser(
        "reload", help="let cnfd read its configuration again; an error is shown", allow_abbrev=False
    )
    reload.set_defaults(run=lambda arguments: import_module("cnf.cli.reload").run(arguments))

    detach = commands.add_parser(
        "detach", help="take the program of a daemon that is gone off the interfaces", allow_abbrev=False
    )
    detach.set_defaults(run=lambda arguments: import_module("cnf.cli.detach").run(arguments))

    doctor = commands.add_parser("doctor", help="what this machine lacks, and the remedies", allow_abbrev=False)
    doctor.add_argument("-o", "--output", choices=("table", "json"), default="table")
    doctor.add_argument("--config", metavar="FILE", help="the configuration that cnfd is to run with")
    doctor.add_argument("--interface", metavar="NAME", action="append", default=[], help="as cnfd has it; repeatable")
    doctor.set_defaults(
        run=lambda arguments: import_module("cnf.cli.doctor.command").run(
            arguments.output, arguments.config, arguments.interface
        )
    )
    return parser
