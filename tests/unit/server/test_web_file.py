"""The web configuration is read again when it, or a certificate that it names, has changed, and not otherwise."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import cast

import pytest
from structlog.typing import FilteringBoundLogger

from cnf.errors import ConfigError
from cnf.server.web_file import WebFile
from tests.certificates import Authority
from tests.unit.plain_user import open_folder, plain_user
from tests.unit.served import Log

HASH = "$2y$04$abcdefghijklmnopqrstuuCV5XW3RkVAjkGb6tOYlf4Ztw/Vf0C9y"


def opened(path: Path) -> tuple[WebFile, Log]:
    """Return the file and its log."""
    log = Log()
    return WebFile(path, cast("FilteringBoundLogger", log)), log


def test_a_change_is_in_force_at_once(tmp_path: Path) -> None:
    """What is written is what the next one asks for; without a change the file is not read again."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}", encoding="ascii")
    file, log = opened(path)
    before = file.current()
    assert file.current() is before
    path.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}", encoding="ascii")
    assert file.current().headers == {"X-Frame-Options": "sameorigin"}
    assert log.lines.get_nowait()[0] == "web configuration read again"


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    """A mistake is counted and logged once, and the previous settings hold until it is mended."""
    path = tmp_path / "web.yml"
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}", encoding="ascii")
    file, log = opened(path)
    before = file.current()
    for count, change in enumerate(("no: such key", "[", None), 1):
        path.unlink() if change is None else path.write_text(change, encoding="ascii")
        for _ in range(3):
            assert file.current() is before
        assert file.errors == count
        event, context = log.lines.get_nowait()
        assert event == "web configuration refused, the previous one holds"
        assert str(path) in str(context["error"])
        with pytest.raises(queue.Empty):
            log.lines.get_nowait()
    path.write_text("", encoding="ascii")
    assert file.current().headers == {}


@pytest.mark.parametrize("written", ["", "# TLS and passwords\n"])
def test_a_file_that_is_emptied_protects_as_before(tmp_path: Path, written: str) -> None:
    """An editor empties a file before it writes: passwords hold until something is there, if only {}."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}", encoding="ascii")
    file, log = opened(path)
    path.write_text(written, encoding="ascii")
    assert file.current().users
    assert "empty, as one that is being written" in str(log.lines.get_nowait()[1]["error"])
    path.write_text("{}\n", encoding="ascii")
    assert not file.current().users
    assert file.errors == 1


def test_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    """A new certificate is used once its key is there, too; until then, the old pair."""
    authority = Authority(tmp_path)
    authority.sign("server", "DNS:x")
    newer = [file.read_bytes() for file in authority.sign("newer", "DNS:x")]
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}", encoding="ascii")
    file, _ = opened(path)
    before = file.current()
    (tmp_path / "server.crt").write_bytes(newer[0])
    assert file.current() is before
    assert (file.errors, file.is_failing) == (1, True)
    (tmp_path / "server.key").write_bytes(newer[1])
    assert file.current() is not before
    assert (file.errors, file.is_failing) == (1, False)


def test_a_file_that_may_be_read_again() -> None:
    """What was refused for its mode is read once that is mended: the remedy changes nothing of what is in the file."""
    with open_folder() as folder:
        path = folder / "web.yml"
        path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}", encoding="ascii")
        file, log = opened(path)
        path.write_text("http_server_config: {headers: {X-Frame-Options: sameorigin}}", encoding="ascii")
        path.chmod(0)
        with plain_user():
            assert file.current().headers == {"X-Frame-Options": "deny"}
        assert "Permission denied" in str(log.lines.get_nowait()[1]["error"])
        path.chmod(0o644)
        assert file.current().headers == {"X-Frame-Options": "sameorigin"}


def test_the_start_takes_no_mistake(tmp_path: Path) -> None:
    """There is nothing to go on with: the start is refused."""
    with pytest.raises(ConfigError, match="No such file"):
        opened(tmp_path / "nothing")
