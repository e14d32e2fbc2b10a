"""The file ``metrics.web_config``: TLS, passwords and headers, in the form of Prometheus' exporter-toolkit.

What this file can say and Python's ssl cannot do is refused, never ignored.
"""

import errno
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from attrs import field, frozen

from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError
from cnf.readers import Reader, RefusedError, choice, printable, refusal, shortened, shown, table, text

MAX_FILE_BYTES: Final = 1 << 20
ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Literal["TLS12", "TLS13"]
VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
VERIFYING: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that exporter-toolkit allows, each with its values; () is any."""
BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_HASH: Final = re.compile(r"\$2[abxy]?\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


class _Loader(yaml.BaseLoader):
    """Read YAML with every scalar as text, as Go reads what is to be text; a key that stands twice is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                problem = f"key {name!r} stands twice" if isinstance(name, str) else "a key is no text"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, str) or value.lower() not in BOOLEANS:
        raise refusal(path, "true or false", value)
    return BOOLEANS[value.lower()]


def _texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise refusal(path, "an array of texts", value)
    return tuple(value)


def _ciphers(value: object, path: str) -> tuple[str, ...]:
    """Read Go's names of TLS 1.2's cipher suites; return OpenSSL's."""
    names = []
    for name in _texts(value, path):
        found = re.fullmatch(r"TLS_(ECDHE_ECDSA|ECDHE_RSA|RSA)_WITH_([A-Z0-9_]+)", name)
        if not found:
            raise refusal(path, "cipher suites of TLS 1.2, by the names that Go has for them", name)
        key, cipher = found[1].replace("_", "-"), found[2]
        cipher = cipher.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305").replace("_CBC", "")
        cipher = cipher.replace("AES_", "AES").replace("_", "-")
        names.append(cipher if key == "RSA" else f"{key}-{cipher}")
    return tuple(names)


def _headers(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refusal(path, "headers by name", value)
    problems = []
    for name, content in value.items():
        if name not in HEADERS:
            problems.append(Problem(f"{path}.{name}", f"cannot be set: expected {', '.join(HEADERS)}"))
        elif not isinstance(content, str) or not re.fullmatch(r"[\x20-\x7e]+", content):
            problems.append(Problem(f"{path}.{name}", "expected a text of one line"))
        elif HEADERS[name] and content not in HEADERS[name]:
            problems.append(Problem(f"{path}.{name}", f"expected {' or '.join(HEADERS[name])}, got {shown(content)}"))
    if problems:
        raise RefusedError(*problems)
    return value


def _users(value: object, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refusal(path, "hashes of passwords by user", value)
    problems = [
        Problem(f"{path}.{shown(name)}", "expected bcrypt's hash of the password (htpasswd -nBC 10 USER)")
        for name, hashed in value.items()
        if not isinstance(hashed, str) or not _HASH.fullmatch(hashed)
    ]
    problems += [Problem(f"{path}.{shown(name)}", "a colon ends a user's name") for name in value if ":" in name]
    if problems:
        raise RefusedError(*problems)
    return value


_FILE: Final = text("the path of a file", lambda value: "\0" not in value)


@frozen
class TlsServer:
    """Table ``tls_server_config``; a file is looked for beside the web configuration."""

    cert_file: Annotated[str, _FILE, "the server's certificate, and those in between"] = ""
    key_file: Annotated[str, _FILE, "its key"] = ""
    client_auth_type: Annotated[ClientAuth, choice(ClientAuth), "what is asked of clients"] = "NoClientCert"
    client_ca_file: Annotated[str, _FILE, "who signs the clients' certificates"] = ""
    client_allowed_sans: Annotated[tuple[str, ...], _texts, "names of which a client's certificate has one"] = ()
    min_version: Annotated[Version, choice(Version), "TLS12 or TLS13"] = "TLS12"
    max_version: Annotated[Version, choice(Version), "TLS12 or TLS13"] = "TLS13"
    cipher_suites: Annotated[tuple[str, ...], _ciphers, "of TLS 1.2"] = ()
    prefer_server_cipher_suites: Annotated[bool, _boolean, "the server chooses the cipher suite"] = True

    @property
    def files(self) -> dict[str, str]:
        """Return the files by key."""
        return {key: file for key in ("cert_file", "key_file", "client_ca_file") if (file := getattr(self, key))}


def _tls(value: object, path: str) -> TlsServer:
    """Read the table, and check what holds between its keys."""
    tls = table(TlsServer)(value, path)
    if tls == TlsServer() and not value:
        return tls
    verifies = tls.client_auth_type != "NoClientCert"
    problems = [Problem(f"{path}.{key}", "missing") for key in ("cert_file", "key_file") if not getattr(tls, key)]
    if verifies and not tls.client_ca_file:
        problems.append(Problem(f"{path}.client_ca_file", f"missing: {tls.client_auth_type} takes it"))
    elif not verifies and (tls.client_ca_file or tls.client_allowed_sans):
        problems.append(Problem(f"{path}.client_auth_type", "missing: clients are not asked for a certificate"))
    if tls.min_version > tls.max_version:
        problems.append(Problem(f"{path}.max_version", f"below min_version, {tls.min_version}"))
    if problems:
        raise RefusedError(*problems)
    return tls


@frozen
class HttpServer:
    """Table ``http_server_config``."""

    http2: Annotated[bool, _boolean, "taken, and without effect: HTTP/1.1 is spoken"] = True
    headers: Annotated[Mapping[str, str], _headers, "headers of every answer"] = field(factory=dict)


def _may_be_empty(read: Reader) -> Reader:
    return lambda value, path: read({} if value == "" else value, path)


@frozen
class Document:
    """The whole file."""

    tls_server_config: Annotated[TlsServer, _may_be_empty(_tls), "TLS"] = field(factory=TlsServer)
    http_server_config: Annotated[HttpServer, _may_be_empty(table(HttpServer)), "headers"] = field(factory=HttpServer)
    basic_auth_users: Annotated[Mapping[str, str], _may_be_empty(_users), "passwords"] = field(factory=dict)


@dataclass(frozen=True, slots=True)
class Tls:
    """How TLS is spoken."""

    context: ssl.SSLContext
    names: frozenset[str]
    """Alternative names of which a client's certificate must have one; without any, all will do."""

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Tell whether a client's certificate, as ``getpeercert()`` has it, has one of the names."""
        if not self.names:
            return True
        there = (certificate or {}).get("subjectAltName", ())
        return not self.names.isdisjoint(_plain(value) for _kind, value in there)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file says."""

    tls: Tls | None
    users: Mapping[bytes, bytes]
    """Hashes of passwords by user; without any, no password is asked for."""
    headers: Mapping[str, str]


def load(path: Path, reading: Callable[[Path], object] = lambda _file: None) -> WebConfig:
    """Read the file, and the certificates that it names; ``reading`` is told of each before it is read.

    Raises:
        ConfigError: with every problem in it.
        PrivilegeError: one of the files may not be read.
        UnavailableError: a file system fails.

    """
    source = f"metrics.web_config {printable(str(path))}"
    reading(path)
    document = _parse(_bytes(path, source, ""), source)
    tls = document.tls_server_config
    files = {key: path.parent / file for key, file in tls.files.items()}
    for key, file in files.items():
        reading(file)
        _bytes(file, source, f"tls_server_config.{key}")
    return WebConfig(
        Tls(_context(tls, files, source), frozenset(map(_plain, tls.client_allowed_sans))) if files else None,
        {name.encode(): hashed.encode() for name, hashed in document.basic_auth_users.items()},
        document.http_server_config.headers,
    )


def files_of(path: Path) -> Iterator[Path]:
    """Yield the file and those that it names. Raises as ``load()`` does."""
    source = f"metrics.web_config {printable(str(path))}"
    yield path
    for file in _parse(_bytes(path, source, ""), source).tls_server_config.files.values():
        yield path.parent / file


def _bytes(file: Path, source: str, key: str) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(file, source, key, error) from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(source, [Problem(key, f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB")])
    return data


def _unreadable(file: Path, source: str, key: str, error: OSError) -> CnfError:
    words = f"{printable(str(file))}: {error.strerror}" if key else str(error.strerror)
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"let cnfd's user read it: chgrp cnf {file}; chmod 640 {file}"
        return PrivilegeError(f"{source}: {key}{': ' if key else ''}{words}", remedy=remedy)
    if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return ConfigError(source, [Problem(key, words)])
    return UnavailableError(f"{source}: {key}{': ' if key else ''}{words}")


def _parse(data: bytes, source: str) -> Document:
    try:
        document = yaml.load(data, _Loader)  # noqa: S506 - it makes texts, arrays and tables, and nothing else
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or type(error).__name__
        line = f" (at line {where.line + 1})" if where else ""
        raise ConfigError(source, [Problem("", f"not YAML: {printable(shortened(words, 100))}{line}")]) from None
    try:
        return table(Document)({} if document in (None, "") else document, "")
    except RefusedError as error:
        raise ConfigError(source, error.problems) from None


def _context(tls: TlsServer, files: Mapping[str, Path], source: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[tls.min_version], VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    key = "cert_file"
    try:
        # An encrypted key would have OpenSSL ask the terminal.
        context.load_cert_chain(files["cert_file"], files["key_file"], password=lambda: "")
        key = "cipher_suites"
        if tls.cipher_suites:
            context.set_ciphers(":".join(tls.cipher_suites))
        key = "client_ca_file"
        if key in files:
            context.load_verify_locations(files[key])
    except (ssl.SSLError, ValueError) as error:
        words = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        remedy = "certificate and key are PEM, belong together, and have no password" if key == "cert_file" else ""
        raise ConfigError(source, [Problem(f"tls_server_config.{key}", f"OpenSSL: {words}")], remedy) from None
    context.verify_mode = VERIFYING[tls.client_auth_type]
    return context


def _plain(name: str) -> str:
    """Return an address in its shortest form, and another name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
