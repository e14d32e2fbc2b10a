"""Changes that wait for a confirmation, and are undone if nobody confirms them in time. Pure."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, frozen

from cnf.errors import UsageError
from cnf.limits.changes import Change, Confirm
from cnf.limits.entries import Author
from cnf.limits.overrides import Effective
from cnf.limits.table import Limits


@frozen
class Pending:
    """Changes that wait together for one confirmation."""

    before: Effective
    """The limits that are in effect again without a confirmation."""
    deadline: float
    who: str
    """The author of the latest change."""
    changes: tuple[str, ...]

    def seconds_left(self, now: float) -> float:
        """Return how long the changes still wait."""
        return max(0.0, self.deadline - now)


@frozen
class RunTime:
    """The limits in effect, and the changes in them that wait. They are to be saved whenever nothing waits.

    ``now`` is in seconds, of a clock that is never set.
    """

    effective: Effective
    pending: Pending | None = None

    def each(self, change: Callable[[Effective], Effective]) -> RunTime:
        """Return the same after ``change`` to what is in effect, and to what comes back without a confirmation."""
        pending = self.pending and evolve(self.pending, before=change(self.pending.before))
        return RunTime(change(self.effective), pending)

    def at(self, now: float) -> RunTime:
        """Return what is left ``now``: what was in effect before, if nobody has confirmed in time."""
        return RunTime(self.pending.before) if self.pending and now >= self.pending.deadline else self

    def after(
        self, change: Change, file: Limits, who: str, now: float, moment: float | None = None
    ) -> tuple[RunTime, tuple[str, ...]]:
        """Return the state after ``change``, made ``now``, and what was changed or confirmed, in words.

        ``moment`` is now, too, in seconds since the epoch, to be noted of what is added to a list.

        Raises:
            UsageError: the change cannot be made, or there is nothing to confirm.

        """
        current = self.at(now)
        pending = current.pending
        author = None if moment is None else Author(who, moment)
        effective, words = change.after(current.effective, file, author)
        if isinstance(change, Confirm):
            if not pending and not current.effective.protected:
                raise UsageError("nothing waits for a confirmation (what was not confirmed in time has been undone)")
            unprotected = [f"protect {address.network_address} no more" for address in current.effective.protected]
            confirmed = [f"confirm {waited}" for waited in pending.changes] if pending else []
            return RunTime(effective), (*confirmed, *unprotected)
        if not words:
            return evolve(current, effective=effective), ()
        if change.confirm is not None:
            deadline = now + change.confirm
            pending = evolve(pending, deadline=deadline) if pending else Pending(current.effective, deadline, who, ())
        if pending:
            pending = evolve(pending, who=who, changes=(*pending.changes, words))
        return RunTime(effective, pending), (words,)
