"""The changes of the limits that a client may ask for. Pure."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Annotated, Final, NamedTuple

from attrs import evolve, fields_dict, frozen

from cnf.abi import RULE_ENDS
from cnf.addresses import peer
from cnf.errors import Problem, UsageError, joined, nearest
from cnf.limits import rule_ends
from cnf.limits.entries import END, REASON, Author, Entry, ListName, end_of, kept, moment, of_list
from cnf.limits.overrides import Effective, without
from cnf.limits.rule_ends import RuleEnd
from cnf.limits.table import NAME, PREFIX, RULE, LimitMode, Limits, Network, Rule, written
from cnf.readers import RefusedError, array, choice, printable, refusal, table, value

_MIN_SECONDS: Final = 0.1
_MAX_SECONDS: Final = 24 * 3600
_SSH_CONNECTION_WORDS: Final = 4  # client's address and port, server's address and port
_SECONDS: Final = value(
    f"seconds from {_MIN_SECONDS} to {_MAX_SECONDS}, or null",
    lambda value: value is None or (type(value) in (int, float) and _MIN_SECONDS <= value <= _MAX_SECONDS),
)


def _operation(value: object, path: str) -> str:
    if isinstance(value, str) and value in _CHANGES:
        return value
    raise refusal(path, f"one of {', '.join(_CHANGES)}", value, _meant(value, _CHANGES))


def _client(value: object, path: str) -> Network | None:
    """Read SSH_CONNECTION (ssh(1)): it begins with the client's address, or UNKNOWN if it has none."""
    if value is None:
        return None
    words = value.split(" ") if isinstance(value, str) else []
    if len(words) == _SSH_CONNECTION_WORDS:
        if words[0] == "UNKNOWN":
            return None
        with suppress(ValueError):
            return peer(words[0])
    raise refusal(path, "what sshd has set as SSH_CONNECTION, or null", value)


def _keys(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refusal(path, "an object with the rule's name and the keys to set", value)
    NAME(value.get("name"), f"{path}.name")
    if len(value) == 1:
        raise RefusedError(Problem(path, "nothing to set: expected a key such as packets_per_second beside the name"))
    return value


class _Before(NamedTuple):
    """What a change finds, and who makes it."""

    effective: Effective
    file: Limits
    author: Author | None


@frozen(kw_only=True)
class Change:
    """A change that a client asks for: the body of its request."""

    op: Annotated[str, _operation, "what to do"]
    confirm: Annotated[float | None, _SECONDS, "undone after so many seconds without a confirmation"] = None
    ssh_connection: Annotated[Network | None, _client, "the client's address over SSH, which is protected"] = None

    def after(
        self,
        effective: Effective,
        file: Limits,
        author: Author | None = None,
    ) -> tuple[Effective, str]:
        """Return what is in effect after this change, made by ``author``, and the change in words; "" for none.

        Raises:
            UsageError: there is nothing to remove, or already what is to be added, or a rule would not be valid.

        """
        edited, words = self._edit(_Before(effective, file, author))
        limits, entries = _in_order(edited.limits, file), kept(edited.entries, edited.limits, file)
        ends = rule_ends.kept(edited.rule_ends, limits, file)
        clients = (self.ssh_connection,) if self.ssh_connection else ()
        return evolve(edited, limits=limits, entries=entries, rule_ends=ends).protecting(clients), words

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        """Change what is in effect."""
        raise NotImplementedError


@frozen(kw_only=True)
class _Set(Change):
    rule: Annotated[dict[str, object], _keys, "the rule's name, and the keys to set"]
    until: Annotated[str | None, END, "when the rule is again as it was before"] = None
    reason: Annotated[str | None, REASON, "what it is set for"] = None

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        name = str(self.rule["name"])
        rules = {rule.name: rule for rule in before.effective.limits.rules}
        options = (written(rules[name]) if name in rules else {}) | self.rule
        known = fields_dict(Rule)
        try:
            rule = RULE(
                {key: option for key, option in options.items() if option is not None or key not in known},
                f"limits.rules.{name}",
            )
        except RefusedError as error:
            new = "" if name in rules else f"{_missing(name, rules)}; to make it: "
            raise _refused(error, new) from None
        words = [f"{key}={_in_words(getattr(rule, key))}" for key in self.rule if key != "name"]
        changed = _with_rules(before.effective, rules | {name: rule})
        changed = evolve(changed, rule_ends=self._ends(before, rules.get(name)))
        return changed, " ".join(["set", name, *words, *_limited_to(self.until, self.reason)])

    def _ends(self, before: _Before, former: Rule | None) -> tuple[RuleEnd, ...]:
        """Return the ends of rules; one that was there for this rule is replaced, and what comes after it stays."""
        name = str(self.rule["name"])
        others = tuple(each for each in before.effective.rule_ends if each.name != name)
        if not self.until or not before.author:
            return others
        _check_end(self.until, before.author)
        if len({each.until for each in others} | {self.until}) > RULE_ENDS:
            raise UsageError(f"until: rules end at {RULE_ENDS} other times already, and more cannot be held")
        about = name, before.author.who, moment(before.author.moment), self.until, self.reason
        for each in before.effective.rule_ends:
            if each.name == name:
                return (*others, RuleEnd(*about, each.former, each.removed))
        of_file = next((rule for rule in before.file.rules if rule.name == name), None)
        return (*others, RuleEnd(*about, former if former != of_file else None, removed=bool(of_file and not former)))


@frozen(kw_only=True)
class _Remove(Change):
    name: Annotated[str, NAME, "a rule's name"]

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        rules = {rule.name: rule for rule in before.effective.limits.rules}
        if self.name not in rules:
            raise UsageError(_missing(self.name, rules))
        del rules[self.name]
        return _with_rules(before.effective, rules), f"remove {self.name}"


def _prefixes(value: object, path: str) -> tuple[Network, ...]:
    """Read a prefix, or an array of them."""
    prefixes: tuple[Network, ...] = _PREFIXES(value, path) if isinstance(value, list) else (PREFIX(value, path),)
    return tuple(dict.fromkeys(prefixes))


_NUMBER: Final = value(
    "a number from 1 on, or null", lambda value: value is None or (type(value) is int and value >= 1)
)
_FLAG: Final = value("true or false", lambda value: type(value) is bool)
_PREFIXES: Final = array("a prefix, or an array of prefixes, at least one", PREFIX, least=1)


@frozen(kw_only=True)
class _List(Change):
    """A change of ``allow`` or ``deny``."""

    @property
    def _list(self) -> ListName:
        return "allow" if self.op.startswith("allow") else "deny"

    def _told(self, prefixes: Collection[Network], until: str | None = None, reason: str | None = None) -> str:
        if not prefixes:
            return ""
        prefix_words = ", ".join(map(str, prefixes))
        return " ".join([self._list, self.op.rpartition("_")[2], prefix_words, *_limited_to(until, reason)])


@frozen(kw_only=True)
class _Add(_List):
    prefix: Annotated[tuple[Network, ...], _prefixes, "what to add"]
    until: Annotated[str | None, END, "when what is added ends"] = None
    reason: Annotated[str | None, REASON, "what it is added for"] = None
    keep_longer: Annotated[bool, _FLAG, "leave alone what lasts as long already"] = False

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        """Add what is not there; an entry that has an end, or gets one, may be added again."""
        effective, _, author = before
        _check_end(self.until, author)
        networks = of_list(effective.limits, self._list)
        known = {each.prefix: each for each in effective.entries if each.list == self._list}
        added = []
        for prefix in self.prefix:
            entry = known.get(prefix)
            if prefix in networks and self.keep_longer and (entry is None or entry.end >= end_of(self.until)):
                continue
            if prefix in networks and not (entry and (self.until or entry.until)):
                raise UsageError(f"limits.{self._list} already has {prefix}")
            added.append(prefix)
        entries = [each for each in effective.entries if each.list != self._list or each.prefix not in added]
        if author:
            about = author.who, moment(author.moment), self.until, self.reason
            entries += [Entry(self._list, prefix, *about) for prefix in added]
        limits = _with(effective.limits, self._list, (*without(networks, tuple(added)), *added))
        return evolve(effective, limits=limits, entries=tuple(entries)), self._told(added, self.until, self.reason)


@frozen(kw_only=True)
class _Unlist(_List):
    prefix: Annotated[tuple[Network, ...], _prefixes, "what to remove"] = ()
    reason: Annotated[str | None, REASON, "remove only what was added for it; without a prefix, all of that"] = None

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        effective = before.effective
        networks, removed = of_list(effective.limits, self._list), self.prefix
        if self.reason is not None:
            added = (each.prefix for each in effective.entries if (each.list, each.reason) == (self._list, self.reason))
            removed = tuple(prefix for prefix in added if prefix in removed or not removed)
        elif not removed:
            raise UsageError("prefix: missing: what to remove, unless there is a reason")
        for prefix in removed:
            if prefix not in networks:
                raise UsageError(f"limits.{self._list} does not have {prefix}")
        limits = _with(effective.limits, self._list, without(networks, removed))
        return evolve(effective, limits=limits), self._told(removed)


def _with(limits: Limits, name: ListName, networks: tuple[Network, ...]) -> Limits:
    return evolve(limits, allow=networks) if name == "allow" else evolve(limits, deny=networks)


def _with_rules(effective: Effective, rules: dict[str, Rule]) -> Effective:
    return evolve(effective, limits=evolve(effective.limits, rules=tuple(rules.values())))


@frozen(kw_only=True)
class _Mode(Change):
    mode: Annotated[LimitMode, choice(LimitMode), "off, shadow or enforce"]

    def _edit(self, before: _Before) -> tuple[Effective, str]:
        limits = evolve(before.effective.limits, mode=self.mode)
        return evolve(before.effective, limits=limits), f"mode {self.mode}"


@frozen(kw_only=True)
class _Reset(Change):
    def _edit(self, before: _Before) -> tuple[Effective, str]:
        return evolve(before.effective, limits=before.file), "reset"


@frozen(kw_only=True)
class Confirm(Change):
    """Confirm the changes that wait, or one of them, and end the protection when nothing waits any more."""

    confirm: Annotated[None, value("null", lambda value: value is None), "a confirmation needs none"] = None
    number: Annotated[int | None, _NUMBER, "which change; without one, all that wait"] = None

    def after(
        self,
        effective: Effective,
        file: Limits,  # noqa: ARG002 - the limits stay
        author: Author | None = None,  # noqa: ARG002 - and so do their authors
    ) -> tuple[Effective, str]:
        """Return the same limits, with nobody protected."""
        return evolve(effective, protected=(), sessions=()), "confirm"


_CHANGES: Final[dict[str, type[Change]]] = {
    "set": _Set,
    "remove": _Remove,
    "allow_add": _Add,
    "allow_remove": _Unlist,
    "deny_add": _Add,
    "deny_remove": _Unlist,
    "mode": _Mode,
    "confirm": Confirm,
    "reset": _Reset,
}


def read_change(body: object) -> Change:
    """Read a request's JSON. Raises UsageError with every problem in it."""
    try:
        operation = _operation(body.get("op") if isinstance(body, dict) else body, "op")
        return table(_CHANGES[operation])(body, "")
    except RefusedError as error:
        raise _refused(error) from None


def _refused(error: RefusedError, beginning: str = "") -> UsageError:
    return UsageError(beginning + joined(error.problems))


def _in_order(limits: Limits, file: Limits) -> Limits:
    """Put what comes from the file in the file's order, and what is new behind that: a restart has the same order."""
    rules = {rule.name: place for place, rule in enumerate(file.rules)}
    allow, deny = ({each: place for place, each in enumerate(networks)} for networks in (file.allow, file.deny))
    return evolve(
        limits,
        allow=tuple(sorted(limits.allow, key=lambda each: allow.get(each, len(allow)))),
        deny=tuple(sorted(limits.deny, key=lambda each: deny.get(each, len(deny)))),
        rules=tuple(sorted(limits.rules, key=lambda rule: rules.get(rule.name, len(rules)))),
    )


def _check_end(until: str | None, author: Author | None) -> None:
    if until and author and until <= moment(author.moment):
        raise UsageError(f"until: {until} is over")


def _limited_to(until: str | None, reason: str | None) -> list[str]:
    """Return an end and a reason in words."""
    return ([f"until {until}"] if until else []) + ([f"({reason})"] if reason else [])


def _missing(name: str, rules: Iterable[str]) -> str:
    hint = _meant(name, rules)
    return f"there is no rule {name}" + (f" ({hint})" if hint else "")


def _meant(word: object, known: Iterable[str]) -> str:
    near = nearest(word, known) if isinstance(word, str) else None
    return f"did you mean {near}?" if near else ""


def _in_words(setting: object) -> str:
    if setting is None or setting == ():
        return "unset"
    return printable(",".join(map(str, setting)) if isinstance(setting, tuple) else str(setting))
