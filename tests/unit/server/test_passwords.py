"""Passwords: who has the right one gets in, nobody learns which users there are, and guessing costs others nothing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import bcrypt
import pytest

from cnf.server import passwords
from cnf.server.messages import RequestError
from cnf.server.passwords import MOST_OF_ONE, MOST_WAITING, Passwords

USERS = {name: bcrypt.hashpw(word, bcrypt.gensalt(4)) for name, word in ((b"alice", b"secret"), (b"bob", b"x" * 72))}

PROMETHEUS = "198.51.100.9"


def basic(credentials: bytes) -> str:
    """Return the header for credentials."""
    return f"Basic {base64.b64encode(credentials).decode()}"


@pytest.fixture
def checked() -> Iterator[Passwords]:
    """Return what checks passwords."""
    checked = Passwords()
    yield checked
    checked.close()


@pytest.mark.parametrize(
    ("header", "right"),
    [
        pytest.param(basic(b"alice:secret"), "alice", id="right"),
        pytest.param(basic(b"alice:secret").replace("Basic", "bASIC "), "alice", id="scheme"),
        pytest.param(basic(b"bob:" + b"x" * 72), "bob", id="longest"),
        pytest.param(basic(b"bob:" + b"x" * 80), "bob", id="longer than bcrypt looks"),
        pytest.param(basic(b"alice:"), None, id="empty"),
        pytest.param(basic(b"alice:secret:"), None, id="colon"),
        pytest.param(basic(b"alice:sec\0ret"), None, id="zero"),
        pytest.param(basic(b"bob:secret"), None, id="another's"),
        pytest.param(basic(b"carol:secret"), None, id="unknown with the first one's"),
        pytest.param(basic(b"alice"), None, id="no colon"),
        pytest.param("Basic ?", None, id="no base64"),
        pytest.param("Basic \u00e9", None, id="no ASCII"),
        pytest.param("Bearer secret", None, id="another scheme"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_who_gets_in(checked: Passwords, header: str, right: str | None) -> None:
    """Those with the right password do, and nobody else, the second time as the first."""
    for _ in range(2):
        assert asyncio.run(checked.user(USERS, header, PROMETHEUS)) == right


def test_who_was_renamed_is_gone(checked: Passwords) -> None:
    """A name that was taken away gets in no more, though its password was right, and is another one's by now."""
    before, after = basic(b"alice:secret"), basic(b"carol:secret")
    assert asyncio.run(checked.user(USERS, before, PROMETHEUS)) == "alice"
    renamed = {b"carol": USERS[b"alice"]}
    assert asyncio.run(checked.user(renamed, before, PROMETHEUS)) is None
    assert asyncio.run(checked.user(renamed, after, PROMETHEUS)) == "carol"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what the hashes of passwords are compared with from now on."""
    compared: list[bytes] = []
    compare = bcrypt.checkpw

    def count(password: bytes, hashed: bytes) -> bool:
        compared.append(hashed)
        return compare(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", count)
    return compared


def test_a_right_password_is_hashed_once(checked: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape with a known password takes no hashing; with another hash for the user it does."""
    compared = counted(monkeypatch)
    for _ in range(3):
        assert asyncio.run(checked.user(USERS, basic(b"alice:secret"), PROMETHEUS))
    assert compared == [USERS[b"alice"]]
    changed = USERS | {b"alice": bcrypt.hashpw(b"other", bcrypt.gensalt(4))}
    assert not asyncio.run(checked.user(changed, basic(b"alice:secret"), PROMETHEUS))


def test_nobody_learns_who_is_there(checked: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that there is not is hashed for as one that there is, each time."""
    compared = counted(monkeypatch)
    for user in (b"alice", b"nobody"):
        for _ in range(2):
            assert not asyncio.run(checked.user(USERS, basic(user + b":wrong"), PROMETHEUS))
    assert compared == [USERS[b"alice"]] * 4


SLOW = {b"alice": bcrypt.hashpw(b"secret", bcrypt.gensalt(10))}


def guesses(checked: Passwords, addresses: list[str]) -> list[asyncio.Future[str | None]]:
    """Begin to guess, a password from each address."""
    return [
        asyncio.ensure_future(checked.user(SLOW, basic(b"alice:%d" % number), address))
        for number, address in enumerate(addresses)
    ]


def test_guessing_holds_up_nobody_who_is_known(checked: Passwords) -> None:
    """While many guess, who was right before is let in at once, and too many are told to wait."""

    async def guess_and_scrape() -> None:
        assert await checked.user(SLOW, basic(b"alice:secret"), PROMETHEUS)
        begun = guesses(checked, [f"192.0.2.{number}" for number in range(MOST_WAITING + 5)])
        await asyncio.sleep(0)
        assert await checked.user(SLOW, basic(b"alice:secret"), PROMETHEUS)
        assert not any(guess.done() and not guess.exception() for guess in begun)
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        assert outcomes[:MOST_WAITING] == [None] * MOST_WAITING
        refused = outcomes[MOST_WAITING:]
        assert [type(each) for each in refused] == [RequestError] * 5
        assert {each.status for each in refused if isinstance(each, RequestError)} == {503}

    asyncio.run(guess_and_scrape())


@pytest.mark.parametrize("guesser", ["192.0.2.66", "2001:db8::{}", "fe80::{}%eth0", "::ffff:192.0.2.66"])
def test_one_that_guesses_leaves_room(checked: Passwords, guesser: str) -> None:
    """A scraper that is not known yet gets in while one client guesses as often as it can, from all of its /64."""

    async def guess_and_scrape() -> None:
        begun = guesses(checked, [guesser.format(number) for number in range(2 * MOST_WAITING)])
        await asyncio.sleep(0)
        assert await checked.user(SLOW, basic(b"alice:secret"), PROMETHEUS) == "alice"
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        assert outcomes.count(None) == MOST_OF_ONE

    asyncio.run(guess_and_scrape())


def test_what_is_remembered_is_bounded(checked: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right passwords in ever new forms do not pile up."""
    monkeypatch.setattr(passwords, "MOST_KNOWN", 3)
    for number in range(10):
        assert asyncio.run(checked.user(USERS, basic(b"bob:" + b"x" * (72 + number)), PROMETHEUS))
        assert len(checked._known) <= 3  # noqa: SLF001 - what must stay small
