"""Who may ask the metrics server, and how: by TLS, with a password, as the web configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from cnf.server.messages import Request, RequestError
from cnf.server.passwords import Passwords
from cnf.server.web_config import Tls
from cnf.server.web_file import WebFile

REASONS: Final = ("handshake", "plain", "password", "busy")
"""Why a client is refused; ``busy``: too many passwords wait to be checked."""


class Access:
    """Asked by the server's thread; others read the counters."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        """Read the web configuration. Raises CnfError if it is refused."""
        self._file = WebFile(path, log)
        self._passwords = Passwords()
        self.refused = dict.fromkeys(REASONS, 0)
        """Clients, by why."""

    @property
    def errors(self) -> int:
        """Return how often a change of the file was refused."""
        return self._file.errors

    @property
    def is_failing(self) -> bool:
        """Return whether what is in the file now is not what is in force."""
        return self._file.is_failing

    @property
    def tls(self) -> Tls | None:
        """Return how TLS is to be spoken; None if it is not."""
        return self._file.current().tls

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers that each answer is to have."""
        return self._file.current().headers

    async def admit(self, request: Request, *, secure: bool) -> str:
        """Let a request pass that has come by TLS, or not (``secure``); return the user, if a password is asked for.

        Raises:
            RequestError: TLS or the right password is missing.

        """
        config = self._file.current()
        if config.tls and not secure:
            self.refused["plain"] += 1
            raise RequestError(HTTPStatus.BAD_REQUEST, "Client sent an HTTP request to an HTTPS server.")
        if not config.users:
            return ""
        try:
            authorization = request.headers.get("authorization", "")
            user = await self._passwords.user(config.users, authorization, request.client)
        except RequestError:
            self.refused["busy"] += 1
            raise
        if user is None:
            self.refused["password"] += 1
            raise RequestError(HTTPStatus.UNAUTHORIZED, "Unauthorized", {"WWW-Authenticate": 'Basic realm="cnfd"'})
        return user

    def close(self) -> None:
        """Check no more passwords."""
        self._passwords.close()
