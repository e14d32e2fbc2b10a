"""Where the servers listen: who may use the control socket, what is in its way, and the remedy for each address."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from pathlib import Path

import pytest

from cnf.errors import CnfError, ConfigError, PrivilegeError, UnavailableError
from cnf.server.sockets import address_of, listen_error, listen_unix, peer_of, sort_inherited


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_control_socket_is_its_owners(tmp_path: Path, umask: int) -> None:
    """Without a group nobody but the daemon's user may connect, whatever the umask; and that stays as it was."""
    before = os.umask(umask)
    try:
        with listen_unix(tmp_path / "run" / "cnf.sock", None):
            assert stat.S_IMODE((tmp_path / "run" / "cnf.sock").stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_a_control_socket_is_its_groups(tmp_path: Path) -> None:
    """With a group, its members may connect, and others may not."""
    group = os.getgid()
    with listen_unix(tmp_path / "cnf.sock", group):
        found = (tmp_path / "cnf.sock").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, group)


def test_a_group_that_the_daemon_is_not_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that cannot be given to the group is taken away again, with what to do by hand and in a unit."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    path = tmp_path / "cnf.sock"
    with pytest.raises(PrivilegeError) as caught:
        listen_unix(path, 5)
    assert str(caught.value) == (
        f"control.socket {path}: Operation not permitted, to give it to control.group"
        " (make this user a member of it; a service, by SupplementaryGroups=)"
    )
    assert not path.exists()


def test_a_control_socket_of_two_groups(tmp_path: Path) -> None:
    """Members of the second group may connect as those of the first, and others may not; it may be the only one."""
    first, second = os.getgid(), 12345
    for group, name in ((first, "both"), (None, "second")):
        path = tmp_path / name
        with listen_unix(path, group, second):
            packed = os.getxattr(path, "system.posix_acl_access")
            mode = stat.S_IMODE(path.stat().st_mode)
        *_, owners, also, mask, others = (entry[1:] for entry in struct.iter_unpack("<HHi", packed[4:]))
        assert (owners[0], also, mask[0], others[0]) == (6 if group is not None else 0, (6, second), 6, 0)
        assert mode == 0o660


def test_a_file_system_without_access_control_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that cannot be opened to the second group is taken away again."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "setxattr", refuse)
    path = tmp_path / "cnf.sock"
    with pytest.raises(UnavailableError, match=r"to open it to control.read_group .*keep it in /run"):
        listen_unix(path, None, 5)
    assert not path.exists()


def test_sockets_of_systemd_are_told_apart(tmp_path: Path) -> None:
    """The Unix socket is for control, all others are for the metrics; what is no listening socket is refused."""
    with (
        socket.create_server(("127.0.0.1", 0)) as metrics,
        listen_unix(tmp_path / "a", None) as control,
        listen_unix(tmp_path / "b", None) as another,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET) as deaf,
    ):
        assert sort_inherited([]) == ([], None)
        assert sort_inherited([metrics]) == ([metrics], None)
        assert sort_inherited([control, metrics]) == ([metrics], control)
        for others in ([datagrams], [deaf], [control, another]):
            with pytest.raises(UnavailableError, match="systemd passed a socket that cnfd has no use for"):
                sort_inherited(others)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")])
def test_an_address_as_one_writes_it(tmp_path: Path, host: str, shown: str) -> None:
    """An address and its port, or a path, can be taken from a line of the log as they are."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as metrics, listen_unix(tmp_path / "a", None) as control:
        assert address_of(metrics) == f"{shown}{metrics.getsockname()[1]}"
        assert address_of(control) == str(tmp_path / "a")


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.EACCES, PrivilegeError, "ReadWritePaths="),
        (errno.EROFS, PrivilegeError, "ReadWritePaths="),
        (errno.ENOSPC, UnavailableError, "make room there"),
        (errno.ENOTDIR, ConfigError, ""),
    ],
)
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CnfError], remedy: str
) -> None:
    """Each refusal of the file system has its own remedy: the right to write is none that more room mends."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(kind) as caught:
        listen_unix(tmp_path / "cnf.sock", None)
    assert os.strerror(number) in str(caught.value)
    assert remedy in str(caught.value)
    assert ("ReadWritePaths=" in str(caught.value)) == (kind is PrivilegeError)


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    """Anything else in the socket's place is refused, named, and stays, also where a link to a socket is."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "target"))
    match kind:
        case "file":
            path.write_text("mine", encoding="ascii")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "target")
        case _:
            os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(ConfigError, match="exists and is no socket: move it away, or choose another path"):
        listen_unix(path, None)
    assert path.lstat() == before
    assert (tmp_path / "target").exists()


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    """A socket at which nobody answers is replaced."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen_unix(path, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    """A socket at which somebody answers stays theirs, and their pid is named."""
    path = tmp_path / "cnf.sock"
    with listen_unix(path, None) as first:
        with pytest.raises(UnavailableError, match=f"another cnfd .pid {os.getpid()}. answers at"):
            listen_unix(path, None)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            accepted, _ = first.accept()
            with accepted:
                assert peer_of(accepted)[:2] == (os.getpid(), os.geteuid())


@pytest.mark.parametrize(
    ("host", "number", "kind", "remedy"),
    [
        ("::", errno.EAFNOSUPPORT, UnavailableError, 'this kernel has IPv6 off: for IPv4 alone write "0.0.0.0:9995"'),
        ("::1", errno.EADDRNOTAVAIL, UnavailableError, 'where IPv6 is off, for IPv4 alone write "0.0.0.0:9995"'),
        ("192.0.2.1", errno.EADDRNOTAVAIL, UnavailableError, "see: ip address"),
        ("::", errno.EADDRINUSE, UnavailableError, "see who uses the port: ss -ltnp"),
        ("0.0.0.0", errno.EACCES, PrivilegeError, "CAP_NET_BIND_SERVICE"),  # noqa: S104 - nothing is bound
        ("127.0.0.1", errno.ENOBUFS, UnavailableError, "choose another address or port"),
    ],
)
def test_each_refusal_has_its_remedy(host: str, number: int, kind: type[Exception], remedy: str) -> None:
    """The error has the kernel's words and what helps against that, and nothing that does not."""
    error = listen_error(f"metrics.listen {host}:9995", host, 9995, OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert os.strerror(number) in str(error)
    assert remedy in str(error)
    assert ("ss -ltnp" in str(error)) == (number == errno.EADDRINUSE)
