"""The fate of an address's packets, and why, in words for someone who is in a hurry."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cnf.cli.api.limit_replies import Case, DeniedPrefix, Explanation, Listed, Rule, Source
from cnf.cli.api.replies import Amount, Timestamp
from cnf.cli.flows.table import View, flow_table
from cnf.cli.limits.glance import CONFIRM
from cnf.cli.limits.units import burst, lost, rate, time_left
from cnf.cli.show.table import Style
from cnf.units import bit_rate, duration, packets, printable, size, wrap

_HOLDING_BACK: Final = {"limited": "is holding it back now", "would_limit": "would hold it back now"}
"""By a bucket's verdict."""


def page(reply: Explanation, width: int | None, style: Style, now: datetime) -> Iterator[str]:
    """Yield a paragraph for each case and the largest flows, no wider than ``width``; None is as wide as it takes."""
    address = printable(reply["address"])
    for case in reply["cases"]:
        text = f"{address}{_scope(case, reply)}: {' '.join(_sentences(case, now))}"
        lines = _wrapped(printable(text), width)
        yield style.bold(address) + lines[0].removeprefix(address)
        yield from lines[1:]
        yield ""
    yield from _flows(reply, width, style, now)


def _wrapped(text: str, width: int | None) -> list[str]:
    """Return the lines of a paragraph; a word is never cut, it may have to be copied."""
    if width is None:
        return [text]
    return wrap(text, width, others="  ")


def _scope(case: Case, reply: Explanation) -> str:
    """Return which packets a case is about, in the terms that tell the cases apart or were asked for."""
    cases, scope = reply["cases"], []
    if reply["protocol"] is not None or any(each["protocols"] != case["protocols"] for each in cases):
        scope.append(", ".join(case["protocols"]))
    if reply["interface"] is not None or any(each["interfaces"] != case["interfaces"] for each in cases):
        scope.append(f"on {', '.join(case['interfaces'])}")
    return f" ({' '.join(scope)})" if scope else ""


def _sentences(case: Case, now: datetime) -> Iterator[str]:
    yield _verdict(case, now)
    yield f"Why: {case['reason'].rstrip('.')}."
    for each in case["in_shadow"]:
        yield f"A set in shadow would {each}; it only counts."
    if case["entry"]:
        yield _denied(case["entry"], now)
    if case["bucket"]:
        yield _bucket(case["bucket"], now)
    elif case["verdict"] == "limited":
        yield "Its bucket is full."


def _verdict(case: Case, now: datetime) -> str:
    rule, verdict = case["rule"], case["verdict"]
    if rule and verdict == "limited":
        return _limited(rule) + _rule_ends(rule, now)
    origin = "by the file" if case["origin"] == "file" else "at run time"
    if case["set"]:
        origin = f"by the set {case['set']}"
    sentences = {
        "protected": f"passes, whatever the rules say, as it is protected until {CONFIRM}, or its session ends.",
        "denied": f"its packets are dropped, as {case['prefix']} is denied ({origin}{_ends(case['entry'], now)}).",
        "allowed": f"passes without limit, as {case['prefix']} is allowed ({origin}{_ends(case['allow_entry'], now)}).",
        "unlimited": "passes, as no rule limits it.",
        "off": f"passes, as {_name(rule) if rule else 'the limiter'} is off.",
    }
    return sentences.get(verdict, f"{verdict}.")


def _ends(entry: Listed | None, now: datetime) -> str:
    """Return how long an entry of a list is still there, and what for."""
    if entry is None:
        return ""
    left = entry["until"] and duration((datetime.fromisoformat(entry["until"]) - now).total_seconds())
    return (f", for another {left}" if left else "") + (f": {entry['reason']}" if entry["reason"] else "")


def _limited(rule: Rule) -> str:
    share = "all of its prefix together" if rule["bucket"] == "prefix" else "each source for itself"
    limit = f"it to {rate(rule)} with bursts of {burst(rule)}{_left_open(rule)}, {share}"
    if rule["mode"] == "shadow":
        return f"{_name(rule)} would limit {limit}, but is in shadow: nothing is dropped."
    return f"{_name(rule)} limits {limit}."


def _rule_ends(rule: Rule, now: datetime) -> str:
    """Return how long a rule is as it is, what for, and what comes then."""
    if rule["until"] is None:
        return ""
    reason = f" ({rule['reason']})" if rule["reason"] else ""
    then = f"it goes back to {rate(rule['after'])}" if rule["after"] else "it is gone"
    return f" That is so for another {time_left(rule['until'], now)}{reason}, then {then}."


def _left_open(rule: Rule) -> str:
    """Return where a burst is from that nobody has set."""
    if not rule["bursts_left_open"]:
        return ""
    least = ", but at least 64 KiB" if "burst_bytes" in rule["bursts_left_open"] else ""
    return f" ({' and '.join(rule['bursts_left_open'])} left open: a second's worth{least})"


def _name(rule: Rule) -> str:
    return f"rule {rule['name']} ({rule['origin']})"


def _denied(entry: DeniedPrefix, now: datetime) -> str:
    """Return what an entry of ``deny`` has dropped, since when, and whether it goes on: who is silent may come back."""
    if entry["first_seen"] is None or entry["last_seen"] is None:
        return "Nothing has come from there since."
    amount = Amount(packets=entry["packets"], bytes=entry["bytes"])
    since, latest = (_ago(moment, now) for moment in (entry["first_seen"], entry["last_seen"]))
    sends = f"it still sends, {bit_rate(entry['bits_per_second'])}" if entry["sending"] else "nothing since"
    return f"Of {entry['prefix']}, {lost(amount, 'dropped')}, the first {since}, the latest {latest}: {sends}."


def _ago(moment: Timestamp, now: datetime) -> str:
    return f"{duration((now - datetime.fromisoformat(moment)).total_seconds())} ago"


def _bucket(bucket: Source, now: datetime) -> str:
    """Return what the bucket holds, and what became of its packets."""
    tokens, octets = bucket["tokens_packets"], bucket["tokens_bytes"]
    left = [] if tokens is None else [packets(tokens)]
    left += [] if octets is None else [size(octets)]
    does = [f" holds {' and '.join(left)}"] if left else []
    does += [f" {_HOLDING_BACK[bucket['verdict']]}"] if bucket["verdict"] in _HOLDING_BACK else []
    return (
        f"The {'shared ' if bucket['shared'] else ''}bucket of {bucket['source']}{' and'.join(does)}: "
        f"{packets(bucket['packets'])} within the limit ({size(bucket['bytes'])}), "
        f"{', '.join(_over(bucket, now))}."
    )


def _over(bucket: Source, now: datetime) -> Iterator[str]:
    """Yield what was dropped, and what shadow has let pass; one of them also where it is nothing."""
    dropped = Amount(packets=bucket["dropped_packets"], bytes=bucket["dropped_bytes"])
    would = Amount(packets=bucket["would_drop_packets"], bytes=bucket["would_drop_bytes"])
    if dropped["packets"] or bucket["mode"] != "shadow":
        yield lost(dropped, "dropped") + _latest(bucket["last_drop"], now)
    if would["packets"] or bucket["mode"] == "shadow":
        in_shadow = bucket["last_over"] if bucket["last_over"] != bucket["last_drop"] else None
        yield lost(would, "would have been dropped") + _latest(in_shadow, now)


def _latest(moment: Timestamp | None, now: datetime) -> str:
    if moment is None:
        return ""
    return f", the latest {_ago(moment, now)}"


def _flows(reply: Explanation, width: int | None, style: Style, now: datetime) -> Iterator[str]:
    if reply["flows"]:
        yield f"its largest flows, with {lost(reply['dropped'], 'dropped')} while they were there:"
        yield from flow_table(reply["flows"], View(width, style, now))
    else:
        yield "no flow of it (a packet that is dropped makes none)"
