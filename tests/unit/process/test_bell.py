"""A bell is heard by those who listen, for as long as they do."""

from __future__ import annotations

from cnf.process.bell import Bell


def test_who_listens_hears_it() -> None:
    """Each listener is called once a ring, and not before or after its block; the same one may listen twice."""
    bell, heard = Bell(), list[str]()

    def first() -> None:
        heard.append("first")

    bell.ring()
    with bell.heard_by(first):
        bell.ring()
        with bell.heard_by(lambda: heard.append("second")), bell.heard_by(first):
            bell.ring()
        bell.ring()
    bell.ring()
    assert heard == ["first", "first", "second", "first", "first"]
