"""A web configuration is taken or refused as promtool does it, but for what Python's TLS has not."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from cnf.errors import CnfError, ConfigError, PrivilegeError, UnavailableError
from cnf.server.web_config import files_of, load
from cnf.server.web_document import SUITES
from tests.certificates import Authority
from tests.unit.plain_user import open_folder, plain_user

PROMTOOL: Final = Path(sys.executable).with_name("promtool")
HASH: Final = "$2y$04$abcdefghijklmnopqrstuuCV5XW3RkVAjkGb6tOYlf4Ztw/Vf0C9y"
SUITE: Final = "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"
TLS: Final = "tls_server_config: {cert_file: server.crt, key_file: server.key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates."""
    folder = tmp_path_factory.mktemp("web")
    authority = Authority(folder)
    authority.sign("server", "IP:127.0.0.1")
    authority.sign("other", "IP:127.0.0.1")
    return folder


def written(folder: Path, text: str) -> Path:
    """Return a file with ``text``."""
    path = folder / "web.yml"
    path.write_text(text, encoding="utf-8")
    return path


def promtool_takes(path: Path) -> bool:
    """Tell whether ``promtool check web-config`` takes a file."""
    return subprocess.run((PROMTOOL, "check", "web-config", path), capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        f"{TLS}}}",
        f"{TLS}, min_version: TLS13}}",
        f"{TLS}, max_version: TLS12, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}}",
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}}",
        f"{TLS}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt}}",
        f"{TLS}, client_auth_type: NoClientCert}}",
        f"{TLS}, prefer_server_cipher_suites: false}}",
        f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256, {SUITE}]}}",
        f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}",
        f"{TLS}, cipher_suites: , min_version: ~, client_ca_file: null, prefer_server_cipher_suites: y}}",
        "null\n",
        "tls_server_config:\nbasic_auth_users: ~\nhttp_server_config: {headers: null}\n",
        f"basic_auth_users: {{alice: {HASH}}}",
        f"basic_auth_users: {{1: {HASH}, yes: {HASH}, 'b c': {HASH}}}",
        "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: 0}}",
        "http_server_config: {headers: {Strict-Transport-Security: max-age=1, X-Content-Type-Options: nosniff}}",
    ],
)
def test_a_file_that_is_taken(folder: Path, text: str) -> None:
    """What promtool takes is taken."""
    path = written(folder, text)
    load(path)
    assert promtool_takes(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("basic_auth_user: {}", "basic_auth_user: unknown key, did you mean basic_auth_users?"),
        ("[", "not YAML: "),
        ("text", "expected a table"),
        (f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}", "key 'alice' stands twice (at line 1)"),
        ("basic_auth_users: {alice: secret}", "expected bcrypt's hash of the password"),
        ("tls_server_config: {cert_file: server.crt}", "tls_server_config.key_file: missing"),
        ("tls_server_config: {key_file: server.key}", "tls_server_config.cert_file: missing"),
        ("tls_server_config: {cert_file: nothing, key_file: server.key}", "nothing: No such file or directory"),
        ("tls_server_config: {cert_file: server.crt, key_file: other.key}", "OpenSSL: key values mismatch"),
        ("tls_server_config: {cert_file: web.yml, key_file: web.yml}", "tls_server_config.cert_file: OpenSSL: "),
        (f"{TLS}, min_version: TLS14}}", 'expected TLS12 or TLS13, got "TLS14"'),
        (f"{TLS}, client_ca_file: ca.crt}}", "client_auth_type: missing"),
        (f"{TLS}, client_auth_type: Always}}", "expected NoClientCert, VerifyClientCertIfGiven or Require"),
        (f"{TLS}, client_auth_type: NoClientCert, client_ca_file: no.crt}}", "client_auth_type: missing"),
        (f"{TLS}, cipher_suites: [AES]}}", "expected cipher suites that Go holds to be secure"),
        (f"{TLS}, cipher_suites: [{SUITE}, TLS_RSA_WITH_RC4_128_SHA]}}", 'got "TLS_RSA_WITH_RC4_128_SHA"'),
        (f"{TLS}, cipher_suites: [{SUITE}, {SUITE}256]}}", f'got "{SUITE}256"'),
        ("basic_auth_users: {alice: null}", "expected bcrypt's hash of the password"),
        ("nothing: null", "nothing: unknown key"),
        ("http_server_config: {headers: {X-Mine: a}}", "http_server_config.headers.X-Mine: cannot be set"),
        ("http_server_config: {headers: {X-Frame-Options: perhaps}}", "expected deny or sameorigin"),
        ("http_server_config: {http2: perhaps}", 'expected true or false, got "perhaps"'),
    ],
)
def test_a_file_that_is_refused(folder: Path, text: str, says: str) -> None:
    """What promtool refuses is refused, and the line says where the mistake is."""
    path = written(folder, text)
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        load(path)
    assert str(caught.value).startswith(f"configuration metrics.web_config {path}: ")
    assert "ssl.c" not in str(caught.value)  # Python's own source
    assert not promtool_takes(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{TLS}, client_auth_type: RequireAnyClientCert}}", "expected NoClientCert, "),
        (f"{TLS}, min_version: TLS10}}", "expected TLS12 or TLS13"),
        (f"{TLS}, min_version: TLS13, max_version: TLS12}}", "max_version: below min_version, TLS13"),
        (f"{TLS}, curve_preferences: [CurveP256]}}", "curve_preferences: unknown key"),
        (f"{TLS}, client_auth_type: RequireAndVerifyClientCert}}", "client_ca_file: missing"),
        ("tls_server_config: {min_version: TLS13}", "cert_file: missing"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "a colon ends a user's name"),
        (f"{TLS}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}}", "cipher_suites: none of TLS12"),
        (f"basic_auth_users: {{alice: {HASH.replace('$2y', '$2')}}}", "expected bcrypt's hash of the password"),
        (f"basic_auth_users: {{alice: {HASH[:-1]}}}", "expected bcrypt's hash of the password"),
    ],
)
def test_what_would_be_without_effect_is_refused(folder: Path, text: str, says: str) -> None:
    """What promtool takes and cnfd could not do, or what protects nothing, is refused."""
    path = written(folder, text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        load(path)
    assert promtool_takes(path)


def test_a_key_with_a_password(folder: Path) -> None:
    """A key that is encrypted is refused, and nobody is asked for its password."""
    command = ("openssl", "pkey", "-in", folder / "server.key", "-aes128", "-passout", "pass:x")
    subprocess.run((*command, "-out", folder / "locked.key"), check=True)
    path = written(folder, "tls_server_config: {cert_file: server.crt, key_file: locked.key}")
    with pytest.raises(ConfigError, match=r"have no password"):
        load(path)


def test_files_beside_the_file(folder: Path) -> None:
    """Paths are taken from the folder of the file, wherever the process is."""
    path = written(folder, f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: {folder}/ca.crt}}")
    assert [*files_of(path)] == [path, folder / "server.crt", folder / "server.key", folder / "ca.crt"]
    tls = load(path).tls
    assert tls is not None
    assert tls.context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("name", ["DNS:scraper", "IP:::1"])
def test_the_names_of_clients(folder: Path, name: str) -> None:
    """With ``client_allowed_sans`` a certificate needs one of the names, however an address is written."""
    kind, _, value = name.partition(":")
    client = "client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt"
    tls = load(written(folder, f"{TLS}, {client}, client_allowed_sans: ['{value}']}}")).tls
    assert tls is not None
    shown = "0:0:0:0:0:0:0:1" if kind == "IP" else value
    assert tls.admits({"subjectAltName": (("DNS", "x"), (kind, shown))})
    assert not tls.admits({"subjectAltName": (("DNS", "x"),)})
    assert not tls.admits({})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Each way has its error: none of them is a traceback."""
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(written(tmp_path, "#" * (1 << 20) + "#"))
    with pytest.raises(CnfError, match="not YAML"):
        load(written(tmp_path, "\x01"))
    (tmp_path / "self").symlink_to("self")
    with pytest.raises((ConfigError, UnavailableError), match="symbolic links"):
        load(tmp_path / "self")


@pytest.mark.parametrize(
    ("closed", "remedy"),
    [
        ("live/server.key", "chgrp cnf .*/server.key; chmod 640 "),
        ("live", "may not enter .*/live: keep the file in /etc"),
    ],
)
def test_what_another_user_may_not_read(folder: Path, closed: str, remedy: str) -> None:
    """The remedy is for what is closed: the file, or a folder on the way to it, also behind a link."""
    with open_folder() as there:
        (there / "live").mkdir()
        for file in ("server.crt", "server.key"):
            shutil.copyfile(folder / file, there / "live" / file)
            (there / file).symlink_to(f"live/{file}")
        path = written(there, f"{TLS}}}")
        (there / closed).chmod(0)
        try:
            with plain_user(), pytest.raises(PrivilegeError, match=remedy):
                load(path)
        finally:
            (there / closed).chmod(0o700)


@pytest.mark.parametrize("suite", [*SUITES])
def test_each_suite_is_offered(folder: Path, suite: str) -> None:
    """OpenSSL leaves out what it does not know without a word: each name of Go's is one of its own."""
    tls = load(written(folder, f"{TLS}, cipher_suites: [{suite}]}}")).tls
    assert tls is not None
    (offered,) = (each["name"] for each in tls.context.get_ciphers() if each["protocol"] != "TLSv1.3")
    assert offered == SUITES[suite]


def test_suites_of_tls_13_only(folder: Path) -> None:
    """A list without one of TLS 1.2 has no TLS 1.2 spoken, as by Go."""
    tls = load(written(folder, f"{TLS}, cipher_suites: [TLS_CHACHA20_POLY1305_SHA256]}}")).tls
    assert tls is not None
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_3
