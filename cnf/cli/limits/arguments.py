"""The command line of ``cnfctl limits``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from cnf.cli.arguments import duration, lasting, positive, until
from cnf.cli.times import add_times

MODES: Final = ("off", "shadow", "enforce")
TRAFFIC: Final = ("tcp", "tcp_syn", "udp", "icmp", "icmpv6", "other", "fragment")
NONE: Final = "none"
"""Takes an option of a rule back."""

_EXAMPLES: Final = """\
examples:
  cnfctl limits                             what each rule has held back
  cnfctl limits sources                     who is held back most
  cnfctl limits sources --at 03:12          who was, at that time
  cnfctl limits explain 192.0.2.66          what happens to its packets
  cnfctl limits deny add 192.0.2.66 --for 1h
  cnfctl limits deny                        who is denied, and its drops
  cnfctl limits set dns --prefix 0.0.0.0/0 --protocol udp \\
      --packets-per-second 1000
  cnfctl limits mode enforce --confirm 60s  undone in 60 s, unless:
  cnfctl limits confirm

Changes outlive a restart; "cnfctl limits reset" takes them all back.
"""
_SET_EXAMPLES: Final = """\
What is not given stays as it is; "none" takes a rate, burst, protocol,
interface or mode back. With --for or --until the rule is as before again
then; the kernel itself sees to that.

examples:
  cnfctl limits set default --packets-per-second 20000 --confirm 60s
  cnfctl limits set lab --prefix 192.0.2.0/24 --prefix 2001:db8::/32 \\
      --bits-per-second 500M --mode shadow
  cnfctl limits set lab --mode none
  cnfctl limits set dns --packets-per-second 200 --for 1h --reason flood
"""

AddParser = Callable[..., argparse.ArgumentParser]


def add_limits(add_parser: AddParser) -> None:
    """Add the command with ``add_parser``, that of a parser's subparsers."""
    limits = add_parser(
        "limits",
        help="the limiter: its rules, who is held back, and changes to them",
        description="Show and change the limits; without an action, list them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    limits.set_defaults(run=_command("show"))
    limits.add_argument("-o", "--output", choices=("table", "json"), default="table")
    actions = limits.add_subparsers(metavar="ACTION").add_parser

    _action(actions, "list", "rules, lists, and changes that wait to be confirmed", "show")
    _add_set(actions)
    remove = _change(actions, "remove", "remove a rule", "remove")
    remove.add_argument("name", metavar="NAME")
    _add_list(actions, "allow", "sources that are never limited")
    _add_list(actions, "deny", "sources whose packets are always dropped")
    _action(actions, "sets", "sets of prefixes out of files, and what each has allowed or denied", "sets")
    mode = _change(actions, "mode", "drop what is over a limit, or only count it", "mode")
    mode.add_argument("mode", choices=MODES)
    confirm = _change(actions, "confirm", "keep what was changed with --confirm", "confirm", confirmable=False)
    confirm.add_argument(
        "number", metavar="NUMBER", type=positive, nargs="?", default=None, help="this change alone (default: all)"
    )
    _change(actions, "reset", "take back what was changed, as the configuration file has it", "reset")
    _add_sources(actions)
    _add_explain(actions)


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Return a function of cnf.cli.limits.command, which is imported once it runs."""
    return lambda arguments: int(getattr(import_module("cnf.cli.limits.command"), name)(arguments))


def _action(
    add_parser: AddParser,
    name: str,
    summary: str,
    command: str,
    outputs: Sequence[str] = ("table", "json"),
) -> argparse.ArgumentParser:
    """Add what runs ``command``; what it leaves open is as given before its name."""
    parser = add_parser(
        name,
        help=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_command(command))
    parser.add_argument("-o", "--output", choices=outputs)
    return parser


def _change(
    add_parser: AddParser, name: str, summary: str, op: str, *, confirmable: bool = True
) -> argparse.ArgumentParser:
    """Add what sends ``op``."""
    parser = _action(add_parser, name, summary, "change")
    parser.set_defaults(op=op)
    if confirmable:
        parser.add_argument(
            "--confirm",
            metavar="DURATION",
            type=duration,
            default=None,
            help='take it back unless "cnfctl limits confirm" comes in time: 60s, 5m, 1h',
        )
    return parser


def _add_set(add_parser: AddParser) -> None:
    rule = _change(add_parser, "set", "change a rule, or add one", "set")
    rule.epilog = _SET_EXAMPLES
    rule.add_argument("name", metavar="NAME")
    rule.add_argument(
        "--prefix", metavar="P", dest="prefixes", action="append", help="the sources, such as 192.0.2.0/24; repeatable"
    )
    rule.add_argument("--packets-per-second", metavar="N", type=_packets)
    rule.add_argument("--burst-packets", metavar="N", type=_packets, help="if not given, a second's worth")
    rule.add_argument("--bits-per-second", metavar="R", help="64k, 500M, 1G")
    rule.add_argument("--burst-bytes", metavar="B", help="64k, 4M; if not given, a second's worth, but at least 64 KiB")
    rule.add_argument("--bucket", choices=("source", "prefix"), help="for each source, or one for all of the prefix")
    rule.add_argument(
        "--protocol",
        metavar="P",
        dest="protocols",
        action="append",
        choices=(*TRAFFIC, NONE),
        help=f"{', '.join(TRAFFIC)}; repeatable",
    )
    rule.add_argument(
        "--interface", metavar="I", dest="interfaces", action="append", help="a name or pattern: 'eth*'; repeatable"
    )
    rule.add_argument("--mode", choices=(*MODES, NONE), help="for this rule alone")
    _add_end(rule)


def _add_list(add_parser: AddParser, name: str, summary: str) -> None:
    entries = _action(add_parser, name, summary, "listed")
    entries.set_defaults(list=name)
    actions = entries.add_subparsers(metavar="ACTION").add_parser
    _action(actions, "list", "who is on it, which is also shown without an action", "listed")
    for action in ("add", "remove"):
        change = _change(actions, action, f"{action} prefixes", f"{name}_{action}")
        if action == "remove":
            change.add_argument("prefix", metavar="PREFIX", nargs="*")
            change.add_argument("--reason", metavar="TEXT", help="only what was added for it; alone, all of that")
        else:
            change.add_argument("prefix", metavar="PREFIX", nargs="+")
            _add_end(change)
            change.add_argument("--keep-longer", action="store_true", help="leave alone what lasts as long already")


def _add_end(change: argparse.ArgumentParser) -> None:
    ends = change.add_mutually_exclusive_group()
    ends.add_argument("--for", metavar="DURATION", dest="until", type=lasting, help="for so long: 10m, 1h")
    ends.add_argument(
        "--until", metavar="TIME", type=until, help="until 12:00, which is local time, or 2026-03-01T12:00:00Z"
    )
    change.add_argument("--reason", metavar="TEXT", help="shown in the list")


def _add_sources(add_parser: AddParser) -> None:
    sources = _action(
        add_parser, "sources", "who is held back most", "sources", outputs=("table", "json", "jsonl", "csv")
    )
    sources.add_argument("--top", metavar="N", type=positive, default=None, help="how many (default: 20 in a table)")
    sources.add_argument("--all", action="store_true", default=False, help="also those that were never held back")
    sources.add_argument("--sort", choices=("over", "dropped", "packets", "bytes"), default="over")
    add_times(sources)


def _add_explain(add_parser: AddParser) -> None:
    explain = _action(add_parser, "explain", "what happens to an address's packets, and why", "explain")
    explain.add_argument("address", metavar="ADDRESS")
    explain.add_argument("--protocol", metavar="P", choices=TRAFFIC, default=None, help=f"one of {', '.join(TRAFFIC)}")
    explain.add_argument("--interface", metavar="I", default=None)


def _packets(text: str) -> int | str:
    return text if text == NONE else positive(text)
