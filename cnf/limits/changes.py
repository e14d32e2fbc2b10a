"""The changes of the limits that a client may ask for. Pure."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Final

from attrs import evolve, fields_dict, frozen

from cnf.addresses import peer
from cnf.errors import Problem, UsageError, joined, nearest
from cnf.limits.entries import END, REASON, Author, Entry, ListName, kept, moment, of_list
from cnf.limits.overrides import Effective, without
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
        author: Author | None = None,  # noqa: ARG002 - noted of what is added to a list
    ) -> tuple[Effective, str]:
        """Return what is in effect after this change, made by ``author``, and the change in words.

        Raises:
            UsageError: there is nothing to remove, or already what is to be added, or a rule would not be valid.

        """
        limits, words = self._edit(file if self.op == "reset" else effective.limits)
        clients = (self.ssh_connection,) if self.ssh_connection else ()
        changed = evolve(effective, limits=_in_order(limits, file), entries=kept(effective.entries, limits, file))
        return changed.protecting(clients), words

    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        """Change the limits in effect."""
        raise NotImplementedError


@frozen(kw_only=True)
class _Set(Change):
    rule: Annotated[dict[str, object], _keys, "the rule's name, and the keys to set"]

    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        name = str(self.rule["name"])
        rules = {rule.name: rule for rule in limits.rules}
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
        return evolve(limits, rules=tuple((rules | {name: rule}).values())), " ".join(["set", name, *words])


@frozen(kw_only=True)
class _Remove(Change):
    name: Annotated[str, NAME, "a rule's name"]

    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        rules = {rule.name: rule for rule in limits.rules}
        if self.name not in rules:
            raise UsageError(_missing(self.name, rules))
        del rules[self.name]
        return evolve(limits, rules=tuple(rules.values())), f"remove {self.name}"


def _prefixes(value: object, path: str) -> tuple[Network, ...]:
    """Read a prefix, or an array of them."""
    prefixes: tuple[Network, ...] = _PREFIXES(value, path) if isinstance(value, list) else (PREFIX(value, path),)
    return tuple(dict.fromkeys(prefixes))


_PREFIXES: Final = array("a prefix, or an array of prefixes, at least one", PREFIX, least=1)


@frozen(kw_only=True)
class _List(Change):
    prefix: Annotated[tuple[Network, ...], _prefixes, "what to add or remove"]
    until: Annotated[str | None, END, "when what is added ends"] = None
    reason: Annotated[str | None, REASON, "what it is added for"] = None

    def after(self, effective: Effective, file: Limits, author: Author | None = None) -> tuple[Effective, str]:
        """Return what is in effect after this change. An entry that has an end, or gets one, may be added again."""
        known = {each.prefix: each for each in effective.entries if each.list == self._list}
        renewed = [
            prefix for prefix in self.prefix if prefix in known and self._adds and (self.until or known[prefix].until)
        ]
        entries = tuple(each for each in effective.entries if each.list != self._list or each.prefix not in renewed)
        networks = without(of_list(effective.limits, self._list), tuple(renewed))
        begun = evolve(effective, entries=entries, limits=_with(effective.limits, self._list, networks))
        if self.until and author and self.until <= moment(author.moment):
            raise UsageError(f"until: {self.until} is over")
        changed, words = super().after(begun, file, author)
        if self._adds and author:
            about = author.who, moment(author.moment), self.until, self.reason
            fresh = tuple(Entry(self._list, prefix, *about) for prefix in self.prefix)
            changed = evolve(changed, entries=kept((*changed.entries, *fresh), changed.limits, file))
        return changed, words

    @property
    def _list(self) -> ListName:
        return "allow" if self.op.startswith("allow") else "deny"

    @property
    def _adds(self) -> bool:
        return self.op.endswith("add")

    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        networks = of_list(limits, self._list)
        for prefix in self.prefix:
            if self._adds == (prefix in networks):
                raise UsageError(f"limits.{self._list} {'already has' if self._adds else 'does not have'} {prefix}")
        networks = (*networks, *self.prefix) if self._adds else without(networks, self.prefix)
        words = [self._list, "add" if self._adds else "remove", ", ".join(map(str, self.prefix))]
        words += [f"until {self.until}"] if self.until else []
        words += [f"({self.reason})"] if self.reason else []
        return _with(limits, self._list, networks), " ".join(words)


def _with(limits: Limits, name: ListName, networks: tuple[Network, ...]) -> Limits:
    return evolve(limits, allow=networks) if name == "allow" else evolve(limits, deny=networks)


@frozen(kw_only=True)
class _Mode(Change):
    mode: Annotated[LimitMode, choice(LimitMode), "off, shadow or enforce"]

    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        return evolve(limits, mode=self.mode), f"mode {self.mode}"


@frozen(kw_only=True)
class _Reset(Change):
    def _edit(self, limits: Limits) -> tuple[Limits, str]:
        return limits, "reset"


@frozen(kw_only=True)
class Confirm(Change):
    """Confirm the changes that wait, and end the protection."""

    confirm: Annotated[None, value("null", lambda value: value is None), "a confirmation needs none"] = None

    def after(
        self,
        effective: Effective,
        file: Limits,  # noqa: ARG002 - the limits stay
        author: Author | None = None,  # noqa: ARG002 - and so do their authors
    ) -> tuple[Effective, str]:
        """Return the same limits, with nobody protected."""
        return Effective(effective.limits, entries=effective.entries), "confirm"


_CHANGES: Final[dict[str, type[Change]]] = {
    "set": _Set,
    "remove": _Remove,
    **dict.fromkeys(("allow_add", "allow_remove", "deny_add", "deny_remove"), _List),
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
