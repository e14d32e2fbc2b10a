"""Changes that wait for a confirmation, each for its own, and are undone if it does not come in time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from attrs import evolve, frozen

from cnf.errors import UsageError
from cnf.limits.changes import Change, Confirm
from cnf.limits.entries import Author
from cnf.limits.overrides import Effective
from cnf.limits.table import Limits, Network


@frozen
class Made:
    """A change that was made, and may have to be made again without one that was made before it."""

    number: int
    change: Change
    author: Author | None
    who: str
    words: str
    deadline: float | None = None
    """When it is undone; without one it stays."""

    def seconds_left(self, now: float) -> float:
        """Return how long it still waits."""
        return 0.0 if self.deadline is None else max(0.0, self.deadline - now)


@frozen
class RunTime:
    """The limits in effect: those of ``base`` with the changes since the first that waits.

    ``now`` is in seconds, of a clock that is never set.
    """

    effective: Effective
    base: Effective
    changes: tuple[Made, ...] = ()
    last: int = 0
    """The number of the latest change that has waited, or was made while one did."""
    lost: tuple[str, ...] = ()
    """What could not be made without the changes that were undone latest, in words."""

    @property
    def pending(self) -> tuple[Made, ...]:
        """Return the changes that wait for a confirmation, in the order they were made."""
        return tuple(each for each in self.changes if each.deadline is not None)

    def each(self, change: Callable[[Effective], Effective]) -> RunTime:
        """Return the same after ``change`` to what is in effect, and to what is without all that was made since."""
        return evolve(self, effective=change(self.effective), base=change(self.base))

    def protecting(self, clients: Iterable[Network]) -> RunTime:
        """Return the same with ``clients`` protected, whether what waits is undone or not, where limits drop anything.

        They are until a confirmation.
        """
        limits, known = self.effective.limits, tuple(clients)
        modes = {limits.mode_of(rule) for rule in limits.rules}
        modes |= {limits.mode_of(each) for each in limits.sets if each.action == "deny"}
        if not limits.deny and "enforce" not in modes:
            return self
        return self.each(lambda effective: effective.protecting(known))

    def at(self, now: float, file: Limits) -> RunTime:
        """Return what is left ``now``: without the changes that nobody has confirmed in time.

        It is what would be if they had never been made. A change that then cannot be made is gone, too.
        """
        left = [each for each in self.changes if each.deadline is None or now < each.deadline]
        return self if len(left) == len(self.changes) else self._with(left, file)

    def after(  # noqa: PLR0913 - what a change depends on
        self,
        change: Change,
        file: Limits,
        who: str,
        now: float,
        moment: float | None = None,
        *,
        staying: Collection[Network] = (),
    ) -> tuple[RunTime, tuple[str, ...]]:
        """Return the state after ``change``, made ``now``, and what was changed or confirmed, in words.

        ``moment`` is now, too, in seconds since the epoch, to be noted of what is added to a list. ``staying`` are the
        sessions that a confirmation leaves protected, since a set denies them.

        Raises:
            UsageError: the change cannot be made, or there is nothing to confirm.

        """
        current = self.at(now, file)
        if isinstance(change, Confirm):
            return current.confirm(change.number, file, staying)
        author = None if moment is None else Author(who, moment)
        effective, words = change.after(current.effective, file, author)
        if not words:
            return current.each(lambda each: each.protecting(effective.protected)), ()
        if change.confirm is None and not current.changes:
            return evolve(current, effective=effective, base=effective), (words,)
        deadline = None if change.confirm is None else now + change.confirm
        made = Made(current.last + 1, change, author, who, words, deadline)
        return evolve(current, effective=effective, changes=(*current.changes, made), last=made.number), (words,)

    def confirm(
        self, number: int | None, file: Limits, staying: Collection[Network] = ()
    ) -> tuple[RunTime, tuple[str, ...]]:
        """Return the state with the change of this number kept, or all, and what that confirmed, in words.

        Whoever is protected is so until nothing waits any more, and who is ``staying``, until the session ends. Raises
        UsageError if there is nothing to confirm.
        """
        confirmed = [each for each in self.pending if number in (None, each.number)]
        if not confirmed and (number is not None or not self.effective.protected):
            what = "nothing waits for a confirmation" if number is None else f"no change {number} waits"
            raise UsageError(f"{what} (what was not confirmed in time has been undone)")
        kept = self._with([evolve(each, deadline=None) if each in confirmed else each for each in self.changes], file)
        words = [f"confirm {each.words}" for each in confirmed]
        if not kept.changes:
            for each in self.effective.protected:
                still = "still, a set denies it" if each in staying else "no more"
                words.append(f"protect {each.network_address} {still}")
            kept = kept.each(lambda each: evolve(each, protected=tuple(staying), sessions=tuple(staying)))
        return kept, tuple(words)

    def _with(self, changes: Iterable[Made], file: Limits) -> RunTime:
        """Return the same with these changes alone. Those before the first that waits become part of the base."""
        base = effective = self.base
        left: list[Made] = []
        lost: list[str] = []
        for each in changes:
            try:
                effective, _ = each.change.after(effective, file, each.author)
            except UsageError:
                lost.append(each.words)
                continue
            if left or each.deadline is not None:
                left.append(each)
            else:
                base = effective
        return evolve(
            self,
            effective=self._unprotecting(effective),
            base=self._unprotecting(base),
            changes=tuple(left),
            lost=tuple(lost),
        )

    def _unprotecting(self, effective: Effective) -> Effective:
        """Return the same without whose protection has ended since."""
        protected = tuple(each for each in effective.protected if each in self.effective.protected)
        sessions = tuple(each for each in self.effective.sessions if each in protected)
        return evolve(effective, protected=protected, sessions=sessions)


def unchanged(effective: Effective) -> RunTime:
    """Return the state where nothing waits."""
    return RunTime(effective, effective)
