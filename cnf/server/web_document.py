"""The document of a web configuration, in the form of Prometheus' exporter-toolkit. Pure.

What this file can say and Python's ssl cannot do is refused, never ignored.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import yaml
from attrs import field, fields_dict, frozen

from cnf.errors import ConfigError, Problem
from cnf.readers import RefusedError, TableT, choice, printable, refusal, shortened, shown, table, text

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Literal["TLS12", "TLS13"]
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that exporter-toolkit allows, each with its values; () is any."""
BOOLEANS: Final = dict.fromkeys(("true", "yes", "on", "y"), True) | dict.fromkeys(("false", "no", "off", "n"), False)
NULL: Final = "tag:yaml.org,2002:null"
SUITES: Final[Mapping[str, str]] = {
    f"TLS_{key}_WITH_{cipher}": f"{prefix}{name}"
    for key, prefix in (("RSA", ""), ("ECDHE_RSA", "ECDHE-RSA-"), ("ECDHE_ECDSA", "ECDHE-ECDSA-"))
    for cipher, name in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
    if prefix or "CHACHA20" not in cipher
}
"""Cipher suites of TLS 1.2 that Go holds to be secure, by its names: OpenSSL's names."""
SUITES_13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Those of TLS 1.3, of which all are always offered, also by Go."""
_HASH: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


class _Loader(yaml.BaseLoader):
    """Read YAML with every scalar as text, as Go reads what is to be text, but null, which is None.

    A key that stands twice is refused.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                problem = f"key {name!r} stands twice" if isinstance(name, str) else "a key is no text"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(NULL, re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor(NULL, lambda _loader, _node: None)


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, str) or value.lower() not in BOOLEANS:
        raise refusal(path, "true or false", value)
    return BOOLEANS[value.lower()]


def _texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise refusal(path, "an array of texts", value)
    return tuple(value)


def _ciphers(value: object, path: str) -> tuple[str, ...]:
    """Read Go's names of cipher suites; return OpenSSL's."""
    names = _texts(value, path)
    for name in names:
        if name not in SUITES and name not in SUITES_13:
            raise refusal(path, f"cipher suites that Go holds to be secure, such as {SUITES_13[0]}", name)
    return tuple(SUITES.get(name, name) for name in names)


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


def _settings(settings_class: type[TableT]) -> Callable[[object, str], TableT]:
    """Return a reader of a table in which null leaves a key, or all of it, as if it were not there."""
    read, keys = table(settings_class), fields_dict(settings_class)

    def reader(value: object, path: str) -> TableT:
        if isinstance(value, dict):
            value = {key: each for key, each in value.items() if each is not None or key not in keys}
        return read({} if value is None else value, path)

    return reader


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
    cipher_suites: Annotated[tuple[str, ...], _ciphers, "of TLS 1.2; all of TLS 1.3 are offered"] = ()
    prefer_server_cipher_suites: Annotated[bool, _boolean, "the server chooses the cipher suite"] = True

    @property
    def files(self) -> dict[str, str]:
        """Return the files by key."""
        return {key: file for key in ("cert_file", "key_file", "client_ca_file") if (file := getattr(self, key))}

    @property
    def least_version(self) -> Version:
        """Return the least version that there are cipher suites for."""
        return "TLS13" if self.cipher_suites and set(self.cipher_suites) <= set(SUITES_13) else self.min_version


def _tls(value: object, path: str) -> TlsServer:
    """Read the table, and check what holds between its keys."""
    tls = _settings(TlsServer)(value, path)
    if not value:
        return tls
    verifies = tls.client_auth_type != "NoClientCert"
    problems = [Problem(f"{path}.{key}", "missing") for key in ("cert_file", "key_file") if not getattr(tls, key)]
    if verifies and not tls.client_ca_file:
        problems.append(Problem(f"{path}.client_ca_file", f"missing: {tls.client_auth_type} takes it"))
    elif not verifies and (tls.client_ca_file or tls.client_allowed_sans):
        problems.append(Problem(f"{path}.client_auth_type", "missing: clients are not asked for a certificate"))
    if tls.min_version > tls.max_version:
        problems.append(Problem(f"{path}.max_version", f"below min_version, {tls.min_version}"))
    elif tls.least_version > tls.max_version:
        problems.append(Problem(f"{path}.cipher_suites", f"none of {tls.max_version}"))
    if problems:
        raise RefusedError(*problems)
    return tls


@frozen
class HttpServer:
    """Table ``http_server_config``."""

    http2: Annotated[bool, _boolean, "taken, and without effect: HTTP/1.1 is spoken"] = True
    headers: Annotated[Mapping[str, str], _headers, "headers of every answer"] = field(factory=dict)


@frozen
class Document:
    """The whole file."""

    tls_server_config: Annotated[TlsServer, _tls, "TLS"] = field(factory=TlsServer)
    http_server_config: Annotated[HttpServer, _settings(HttpServer), "headers"] = field(factory=HttpServer)
    basic_auth_users: Annotated[Mapping[str, str], _users, "passwords"] = field(factory=dict)


def parse(data: bytes, source: str, *, may_be_empty: bool = True) -> Document:
    """Read the document. Raises ConfigError, which names its ``source``, with every problem in it."""
    try:
        document = yaml.load(data, _Loader)  # noqa: S506 - it makes texts, arrays and tables, and nothing else
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        words = getattr(error, "problem", None) or type(error).__name__
        line = f" (at line {where.line + 1})" if where else ""
        raise ConfigError(source, [Problem("", f"not YAML: {printable(shortened(words, 100))}{line}")]) from None
    if document is None and not may_be_empty:
        raise ConfigError(source, [Problem("", "empty, as one that is being written: {} takes TLS and passwords away")])
    try:
        return _settings(Document)(document, "")
    except RefusedError as error:
        raise ConfigError(source, error.problems) from None
