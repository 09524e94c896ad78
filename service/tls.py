"""The certificate that the service shows, read again when its files change: no restart, no dropped call.

Open connections keep what they began with; each new one is shown the newest pair. Files that do not go together are
not used, and what was there before stays: a rotation that is half done, or done wrongly, harms nobody.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grpc


class CertificateRefused(Exception):
    """The files can't be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where they lie, all as PEM.

    Attributes:
        certificate: the service's own, followed by those between it and its authority.
        key: its key, without a password.
        client_ca: authorities of clients' certificates; None asks clients for none. Who can't show one is refused.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))


class _Contents(NamedTuple):
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Certificates:
    """What is shown to whoever connects next."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises CertificateRefused."""
        self._files = files
        self._contents = _read(files)
        # Of a pair that gRPC does not have yet.
        self._fresh: grpc.ServerCertificateConfiguration | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """For the server's port; asks this object again at every connection."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._contents),
            self._fetch,  # type: ignore[arg-type]  # None is for no change, which the stubs don't know
            self._files.client_ca is not None,
        )

    def reload(self) -> None:
        """Reads the files again, for connections that come after this.

        Raises:
            CertificateRefused: what was there before goes on.
        """
        self._contents = _read(self._files)
        self._fresh = _configuration(self._contents)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """None when gRPC has the newest. Called in gRPC's own threads, one at a time, before each handshake."""
        fresh, self._fresh = self._fresh, None
        return fresh


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(contents.key, contents.certificate)], root_certificates=contents.client_ca
    )


def _read(files: TlsFiles) -> _Contents:
    before = _contents(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password, or a key with one would be asked for on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise CertificateRefused(
            f"the certificate {files.certificate} and the key {files.key} do not go together or are no PEM: {error}; "
            "DENOISED_TLS_CERTIFICATE_FILE and DENOISED_TLS_KEY_FILE must name a chain and its own key, without a "
            "password"
        ) from error
    if before.client_ca is not None:
        try:
            context.load_verify_locations(cadata=before.client_ca.decode("ascii", errors="replace"))
        except ssl.SSLError as error:
            raise CertificateRefused(
                f"{files.client_ca} holds no certificates of authorities as PEM: {error}; "
                "DENOISED_TLS_CLIENT_CA_FILE must name some, or be unset"
            ) from error
    if _contents(files) != before:
        raise CertificateRefused("the files changed while they were read; they are read again after the next change")
    return before


def _contents(files: TlsFiles) -> _Contents:
    def read() -> Iterator[bytes]:
        for path in files.paths():
            try:
                yield path.read_bytes()
            except OSError as error:
                raise CertificateRefused(f"cannot read {path}: {error.strerror}; mount it, or name another") from error

    certificate, key, *client_ca = read()
    return _Contents(certificate, key, client_ca[0] if client_ca else None)
