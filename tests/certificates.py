"""Certificates of an authority that a test makes with openssl(1)."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Final

KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


class Authority:
    """One that signs certificates of servers and clients, all in ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        """Make its own."""
        self.folder = folder
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl("-x509", *KEY, "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate)

    def sign(self, name: str, *alternative_names: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key, for names such as ``DNS:localhost``."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        names = f"subjectAltName={','.join(alternative_names)}"
        signer = ("-x509", "-CA", self.certificate, "-CAkey", self._key)
        _openssl(*signer, *KEY, "-subj", f"/CN={name}", "-addext", names, "-keyout", key, "-out", certificate)
        return certificate, key

    def client(self, certificate: tuple[Path, Path] | None = None, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        """Return how a client speaks that trusts this authority; ``minimum_version`` and the like are set on it."""
        context = ssl.create_default_context(cafile=self.certificate)
        for name, version in versions.items():
            setattr(context, name, version)
        if certificate:
            context.load_cert_chain(*certificate)
        return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(("openssl", "req", *arguments), check=True, capture_output=True)
