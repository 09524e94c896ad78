"""Certificates: what can't be used is refused by name, and what was there before goes on."""

from pathlib import Path

import grpc
import pytest

from service.tls import CertificateRefused, Certificates, TlsFiles
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    return TlsFiles(*authority.issue("localhost").write(tmp_path))


def fetched(certificates: Certificates) -> grpc.ServerCertificateConfiguration | None:
    """What gRPC gets at the next handshake."""
    return certificates._fetch()


def test_a_pair_gives_credentials(files: TlsFiles) -> None:
    assert isinstance(Certificates(files).credentials(), grpc.ServerCredentials)


def test_grpc_gets_a_new_pair_once(files: TlsFiles, authority: Authority) -> None:
    certificates = Certificates(files)
    assert fetched(certificates) is None
    authority.issue("localhost").write(files.certificate.parent)
    certificates.reload()
    assert fetched(certificates) is not None
    assert fetched(certificates) is None


def test_a_certificate_without_its_key_is_refused_and_the_pair_before_goes_on(
    files: TlsFiles, authority: Authority
) -> None:
    certificates = Certificates(files)
    files.certificate.write_bytes(authority.issue("localhost").certificate)
    with pytest.raises(CertificateRefused, match="do not go together"):
        certificates.reload()
    assert fetched(certificates) is None


@pytest.mark.parametrize("what", ["certificate", "key"])
def test_text_that_is_no_pem_is_refused(what: str, files: TlsFiles) -> None:
    getattr(files, what).write_text("nonsense", encoding="ascii")
    with pytest.raises(CertificateRefused, match="DENOISED_TLS_KEY_FILE"):
        Certificates(files)


def test_a_file_that_is_not_there_is_named(files: TlsFiles) -> None:
    files.key.unlink()
    with pytest.raises(CertificateRefused, match=r"cannot read .*tls\.key"):
        Certificates(files)


def test_authorities_of_clients_that_are_no_pem_are_refused(files: TlsFiles, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("nonsense", encoding="ascii")
    with pytest.raises(CertificateRefused, match="DENOISED_TLS_CLIENT_CA_FILE"):
        Certificates(TlsFiles(files.certificate, files.key, ca))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(files: TlsFiles) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificateRefused, match="without a password"):
        Certificates(files)
