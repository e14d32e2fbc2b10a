"""Import libraries without what cnfd never uses of them: the daemon starts sooner, and is 10 MB smaller.

What is left out is TLS, and the servers, clients and protocols that a library has for others. Where leaving out does
not work, with another version perhaps, the library is imported as it is, and the daemon is merely larger.

The rest of cnfd imports from these libraries as ever, and whatever a library has is there for who asks for it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple

ABSENT: Final = {"asyncio": "ssl", "hmac": "_hashlib", "structlog": "rich"}
"""By module, another one that it does without on purpose where that is not installed."""
SHA_2: Final = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")
OWN_HASHES: Final = ("_blake2", "_md5", "_sha1", "_sha3", *SHA_2)
"""What Python has in place of OpenSSL's hashes (``_hashlib``), unless a distribution has taken it out."""


class Library(NamedTuple):
    """A package that imports all that it has in its ``__init__``."""

    parts: Mapping[str, str]
    """Names that cnfd imports from the package, and the submodules that they are from."""
    unused: tuple[str, ...]
    """Modules that these need for what cnfd does not do."""


LIBRARIES: Final = {
    "prometheus_client": Library(
        {
            "CollectorRegistry": "registry",
            "Counter": "metrics",
            "Gauge": "metrics",
            "Histogram": "metrics",
            "generate_latest": "exposition",
        },
        ("http.server", "ssl", "urllib.request", "wsgiref.simple_server"),
    ),
    "pyroute2": Library({"IPRoute": "iproute.linux", "NetlinkError": "netlink.exceptions"}, ("ssl", "unittest")),
}


def load() -> dict[str, str]:
    """Import the libraries lightly; return those that were imported as they are, each with what had failed."""
    ways: dict[str, Callable[[], object]] = {name: partial(_without, name, other) for name, other in ABSENT.items()}
    ways |= {name: partial(_in_parts, name, library) for name, library in LIBRARIES.items()}
    return {name: failed for name, way in ways.items() if (failed := _try(name, way))}


def sha256(data: bytes) -> str:
    """Return a digest in hexadecimal, by Python's own code where there is any: OpenSSL takes 5 MB."""
    if "hashlib" not in sys.modules:
        _without("hashlib", "_hashlib")
    return str(sys.modules["hashlib"].sha256(data).hexdigest())


def _try(name: str, way: Callable[[], object]) -> str:
    """Import a module in a light way; where that fails, as it is, and return what failed."""
    before = {*sys.modules}
    try:
        way()
    except Exception as error:  # noqa: BLE001 - whatever a version of the library makes of it
        for module in {*sys.modules} - before:
            if module.partition(".")[0] == name:
                del sys.modules[module]
        import_module(name)
        return repr(error)
    return ""


def _without(name: str, other: str) -> None:
    """Import a module as if another one were not installed."""
    needed = other == "_hashlib" and not all(map(importlib.util.find_spec, OWN_HASHES))
    with _replaced({} if needed else {other: None}):
        import_module(name)


def _in_parts(package: str, library: Library) -> None:
    """Import the parts of a package without its ``__init__``, which runs once somebody asks for another name."""
    spec = importlib.util.find_spec(package)
    if package in sys.modules or spec is None or spec.loader is None:
        return
    loader, module = spec.loader, importlib.util.module_from_spec(spec)

    def get(name: str) -> Any:  # noqa: ANN401 - whatever has the name
        if name.startswith("__"):
            raise AttributeError(name)
        if importlib.util.find_spec(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        del module.__getattr__
        loader.exec_module(module)
        return getattr(module, name)

    # Its __init__ may have seen to it that no line goes to standard error.
    logging.getLogger(package).addHandler(logging.NullHandler())
    module.__getattr__ = get  # type: ignore[method-assign]
    sys.modules[package] = module
    with _replaced({name: _StandIn(name, (), {}) for name in library.unused}):
        for name, part in library.parts.items():
            setattr(module, name, getattr(import_module(f"{package}.{part}"), name))


class _StandIn(type):
    """A class in place of a module, or of what is in one; all of its names are such classes, too."""

    def __getattr__(cls, name: str) -> _StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(name, (), {})


@contextmanager
def _replaced(modules: Mapping[str, object]) -> Iterator[None]:
    """For the length of the block, have imports find other modules, or None; but those that are there by now stay."""
    others = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(others)  # type: ignore[arg-type] # None is how Python is told that there is no such module
    try:
        yield
    finally:
        for name in others:
            del sys.modules[name]
