"""What is kept of flows, and where: the tables ``[export]`` and ``[history]``. Pure."""

import re
from typing import Annotated, Final

from attrs import field, frozen

from cnf.errors import Problem, UsageError
from cnf.readers import (
    BOOLEAN,
    INTERFACE,
    Reader,
    RefusedError,
    amount,
    array,
    duration,
    integer,
    is_path,
    refusal,
    table,
    text,
)

_MAX_PORT: Final = 65535
_MAX_U32: Final = (1 << 32) - 1
_NAMES: Final = array("an array of interfaces", INTERFACE)
PATH: Final = text('an absolute path, or "" for none, at most 4,000 bytes', lambda path: path == "" or is_path(path))


def _collector(value: object, path: str) -> str:
    pattern = r"(\[[0-9A-Fa-f:.%\w]+\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})"
    found = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[2]) <= _MAX_PORT:
        raise refusal(path, f'"HOST:PORT" or "[IPV6]:PORT", a port from 1 to {_MAX_PORT}', value)
    return found[0]


def _filter(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise refusal(path, "a filter expression", value)
    if not value:
        return value
    from cnf.filter.grammar import compile_filter  # noqa: PLC0415 - with numpy, which few configurations need so early

    try:
        compile_filter(value)
    except UsageError as error:
        raise RefusedError(Problem(path, str(error))) from None
    return value


@frozen
class Ipfix:
    """One ``[[export.ipfix]]`` table."""

    collector: Annotated[str, _collector, "HOST:PORT that records are sent to, by UDP"]
    domain: Annotated[int, integer(0, _MAX_U32), "the observation domain: which node this is, to the collector"] = 1
    active_timeout: Annotated[float, duration, "a flow that goes on has a record each so many seconds"] = 60.0
    template_interval: Annotated[float, duration, "from one sending of the templates to the next"] = 60.0
    mtu: Annotated[int, integer(576, 9000), "bytes of the largest packet sent, IP header and all"] = 1400
    interfaces: Annotated[tuple[str, ...], _NAMES, "only flows of these; without it, of all"] = ()
    filter: Annotated[str, _filter, "only flows that match, as in cnfctl flows"] = ""
    biflow: Annotated[bool, BOOLEAN, "true: both directions of a connection in one record (RFC 5103)"] = False


@frozen
class JsonLines:
    """Table ``[export.json]``."""

    file: Annotated[str, PATH, "a file that a line is added to for each record"] = ""
    active_timeout: Annotated[float, duration, "a flow that goes on has a record each so many seconds"] = 60.0
    max_bytes: Annotated[int, amount(1 << 20, 1 << 40, "bytes"), "then the file is renamed to FILE.1"] = 100_000_000
    filter: Annotated[str, _filter, "only flows that match, as in cnfctl flows"] = ""


_IPFIX: Final = array("[[export.ipfix]] tables", table(Ipfix), noun="collector", key="collector")


@frozen
class Export:
    """Table ``[export]``."""

    ipfix: Annotated[tuple[Ipfix, ...], _IPFIX, "collectors"] = ()
    json: Annotated[JsonLines, table(JsonLines), "a file of JSON lines"] = field(factory=JsonLines)

    @property
    def is_on(self) -> bool:
        """Return whether records go anywhere."""
        return bool(self.ipfix or self.json.file)


def _keep(value: object, path: str) -> float:
    return 0.0 if value == "0s" else duration(value, path)


@frozen
class History:
    """Table ``[history]``."""

    keep: Annotated[float, _keep, 'for how long minutes are kept; "0s": no history'] = 86400.0
    max_bytes: Annotated[int, amount(1 << 20, 1 << 40, "bytes"), "the most that all minutes take"] = 64_000_000
    folder: Annotated[str, text("an absolute path, at most 4,000 bytes", is_path), "where they are kept"] = (
        "/var/lib/cnf/history"
    )


EXPORT: Final[Reader] = table(Export)
HISTORY: Final[Reader] = table(History)
