"""Rules that were set until a time, and what they are after it. Pure."""

from collections.abc import Iterable
from typing import Annotated, Final

from attrs import frozen

from cnf.limits.entries import MOMENT, REASON, WHO, end_of
from cnf.limits.table import NAME, RULE, Limits, Rule
from cnf.readers import value


def _former(value: object, path: str) -> Rule | None:
    former: Rule | None = None if value is None else RULE(value, path)
    return former


_FLAG: Final = value("true or false", lambda value: type(value) is bool)


@frozen
class RuleEnd:
    """The end of a rule, and what comes after it: the file's rule of that name, if there is one and nothing else."""

    name: Annotated[str, NAME, "the rule's name"]
    who: Annotated[str, WHO, "the user and process that set it"]
    since: Annotated[str, MOMENT, "when it was set"]
    until: Annotated[str, MOMENT, "when it ends"]
    reason: Annotated[str | None, REASON, "what for"] = None
    former: Annotated[Rule | None, _former, "the rule that was set before, and comes back"] = None
    removed: Annotated[bool, _FLAG, "the file's rule was removed before, and does not come back"] = False

    @property
    def end(self) -> float:
        """Return when it ends, in seconds since the epoch."""
        return end_of(self.until)

    def after(self, file: Limits) -> Rule | None:
        """Return the rule after the end; None if there is none."""
        if self.former or self.removed:
            return self.former
        return next((rule for rule in file.rules if rule.name == self.name), None)


def ended(rules: Iterable[Rule], ends: Iterable[RuleEnd], file: Limits) -> tuple[Rule, ...]:
    """Return ``rules`` after these ends."""
    after = {each.name: each.after(file) for each in ends}
    return tuple(rule for each in rules if (rule := after.get(each.name, each)))


def kept(ends: Iterable[RuleEnd], limits: Limits, file: Limits) -> tuple[RuleEnd, ...]:
    """Return the ends of rules that ``limits`` have, and that an end changes."""
    rules = {rule.name: rule for rule in limits.rules}
    return tuple(each for each in ends if each.name in rules and rules[each.name] != each.after(file))
