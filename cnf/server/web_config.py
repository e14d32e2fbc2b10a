"""The file ``metrics.web_config``: TLS, passwords and headers, and the certificates that it names."""

import errno
import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cnf.errors import CnfError, ConfigError, PrivilegeError, Problem, UnavailableError
from cnf.readers import printable
from cnf.server.web_document import SUITES_13, TlsServer, parse

MAX_FILE_BYTES: Final = 1 << 20
VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
VERIFYING: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


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


def load(path: Path, reading: Callable[[Path], object] = lambda _file: None, *, may_be_empty: bool = True) -> WebConfig:
    """Read the file, and the certificates that it names; ``reading`` is told of each before it is read.

    Raises:
        ConfigError: with every problem in it.
        PrivilegeError: one of the files may not be read.
        UnavailableError: a file system fails.

    """
    source = f"metrics.web_config {printable(str(path))}"
    reading(path)
    document = parse(_bytes(path, source, ""), source, may_be_empty=may_be_empty)
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
    for file in parse(_bytes(path, source, ""), source).tls_server_config.files.values():
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
        if (closed := _closed_folder(file)) is not None:
            remedy = f"cnfd's user may not enter {printable(str(closed))}: keep the file in /etc/cnf"
        return PrivilegeError(f"{source}: {key}{': ' if key else ''}{words}", remedy=remedy)
    if error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return ConfigError(source, [Problem(key, words)])
    return UnavailableError(f"{source}: {key}{': ' if key else ''}{words}")


def _closed_folder(file: Path) -> Path | None:
    """Return the folder that keeps this user from ``file``, links followed; None if none does."""
    folders = reversed(Path(os.path.realpath(file)).parents)
    return next((folder for folder in folders if not os.access(folder, os.X_OK, effective_ids=True)), None)


def _context(tls: TlsServer, files: Mapping[str, Path], source: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[tls.least_version], VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    key = "cert_file"
    try:
        # An encrypted key would have OpenSSL ask the terminal.
        context.load_cert_chain(files["cert_file"], files["key_file"], password=lambda: "")
        key = "cipher_suites"
        if older := [name for name in tls.cipher_suites if name not in SUITES_13]:
            context.set_ciphers(":".join(older))
        key = "client_ca_file"
        if key in files:
            context.load_verify_locations(files[key])
    except (ssl.SSLError, ValueError) as error:
        words = openssl_words(error)
        remedy = "certificate and key are PEM, belong together, and have no password" if key == "cert_file" else ""
        raise ConfigError(source, [Problem(f"tls_server_config.{key}", f"OpenSSL: {words}")], remedy) from None
    context.verify_mode = VERIFYING[tls.client_auth_type]
    return context


def openssl_words(error: Exception) -> str:
    """Return OpenSSL's words, such as "unsupported protocol", without those of Python around them."""
    words = getattr(error, "reason", None) or re.sub(r"^\[\w+\] | \(_ssl\.c:\d+\)$", "", str(error))
    return words.lower().replace("_", " ")


def _plain(name: str) -> str:
    """Return an address in its shortest form, and another name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
