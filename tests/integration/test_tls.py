"""TLS between real processes: who is let in, what each failure says, and that a rotation drops nothing."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from denoised import AsyncClient, Client, DenoisedError, RetryPolicy, SecureConnectionError, Tls
from tests.certificates import Authority
from tests.integration import harness
from tests.integration.harness import RunningService, until

_IMAGE = np.full((64, 64, 3), 128, np.uint8)


@dataclass(frozen=True, slots=True)
class Secured:
    """A service with TLS, and what its certificate is made of."""

    service: RunningService
    authority: Authority
    folder: Path

    @property
    def trust(self) -> Tls:
        return Tls(ca=self.folder / "ca.crt")

    def show(self, *names: str, expired: bool = False) -> None:
        """Rotates the certificate, and returns once it is shown."""
        taken = self._taken()
        self.authority.issue(*names, expired=expired).write(self.folder)
        # Certificate and key are two files: the first look may come between them, and is refused then.
        until(lambda: self._taken() > taken, "the new certificate was taken")

    def _taken(self) -> float:
        return self.service.metric("denoised_reloads_total", what="certificate", outcome="taken")


def secured(folder: Path, **settings: object) -> Iterator[Secured]:
    authority = Authority()
    (folder / "ca.crt").write_bytes(authority.certificate)
    certificate, key = authority.issue("localhost", "127.0.0.1").write(folder)
    settings |= {"tls_certificate_file": certificate, "tls_key_file": key, "lane_count": 1, "credentials_poll_s": 0.01}
    with harness.launched(folder, **settings) as process:
        service = harness.ready(process, folder)
        yield Secured(service, authority, folder)
        # A rotation that is looked at half way is logged as an error, and is none.
        assert process.poll() is None


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    yield from secured(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("mutual")
    yield from secured(folder, tls_client_ca_file=folder / "ca.crt")


@pytest.fixture
def good_again(tls: Secured) -> Iterator[None]:
    yield
    tls.show("localhost", "127.0.0.1")


def failure(target: str, *, tls: Tls | bool, tries: int = 4) -> DenoisedError:
    with (
        Client(target, tls=tls, retry=RetryPolicy(try_count=tries, first_pause_s=0.01)) as client,
        pytest.raises(DenoisedError) as caught,
    ):
        client.models()
    return caught.value


def check(error: DenoisedError, reason: str, remedy: str, *, is_certain: bool = True) -> None:
    assert isinstance(error, SecureConnectionError)
    assert (error.reason, error.is_certain) == (reason, is_certain)
    assert remedy in str(error)


def test_a_client_that_trusts_the_authority_is_answered(tls: Secured) -> None:
    with Client(tls.service.grpc_target, tls=tls.trust) as client:
        assert client.clean(_IMAGE).image.shape == _IMAGE.shape


async def test_so_is_one_for_asyncio(tls: Secured) -> None:
    async with AsyncClient(tls.service.grpc_target, tls=tls.trust) as client:
        assert (await client.clean(_IMAGE)).image.shape == _IMAGE.shape


def test_probes_need_no_certificate(tls: Secured) -> None:
    assert tls.service.http("/readyz")[0] == 200
    assert tls.service.http("/healthz")[0] == 200


@pytest.mark.usefixtures("good_again")
def test_a_certificate_with_another_name_is_called_that(tls: Secured) -> None:
    tls.show("elsewhere.example")
    check(failure(tls.service.grpc_target, tls=tls.trust), "TLS_NAME_WRONG", "--tls-server-name")
    named = Tls(ca=tls.folder / "ca.crt", server_name="elsewhere.example")
    with Client(tls.service.grpc_target, tls=named) as client:
        assert client.models()


@pytest.mark.usefixtures("good_again")
def test_an_expired_certificate_is_called_that(tls: Secured) -> None:
    tls.show("localhost", "127.0.0.1", expired=True)
    check(failure(tls.service.grpc_target, tls=tls.trust), "TLS_CERTIFICATE_EXPIRED", "renew it")


def test_an_authority_that_is_not_trusted_is_called_that(tls: Secured) -> None:
    check(failure(tls.service.grpc_target, tls=True), "TLS_CERTIFICATE_UNTRUSTED", "--tls-ca")


def test_plain_text_to_tls_is_told_about_tls(tls: Secured) -> None:
    check(failure(tls.service.grpc_target, tls=False), "TLS_EXPECTED", "--tls", is_certain=False)


def test_tls_to_plain_text_is_told_so(served: RunningService, tls: Secured) -> None:
    check(failure(served.grpc_target, tls=tls.trust), "TLS_NOT_SPOKEN", "connect without TLS")


async def test_clients_for_asyncio_hear_the_same(served: RunningService, tls: Secured) -> None:
    async with AsyncClient(served.grpc_target, tls=tls.trust) as client:
        with pytest.raises(SecureConnectionError) as caught:
            await client.models()
    check(caught.value, "TLS_NOT_SPOKEN", "connect without TLS")


def test_a_client_without_a_certificate_is_not_let_in_where_one_is_asked_for(mutual: Secured) -> None:
    error = failure(mutual.service.grpc_target, tls=mutual.trust, tries=1)
    check(error, "TLS_EXPECTED", "--tls-cert", is_certain=False)


def test_a_client_with_a_certificate_of_the_authority_is(mutual: Secured) -> None:
    certificate, key = mutual.authority.issue("alice.example").write(mutual.folder, "alice")
    tls = Tls(ca=mutual.folder / "ca.crt", certificate=certificate, key=key)
    with Client(mutual.service.grpc_target, tls=tls) as client:
        assert client.models()


def test_one_of_another_authority_is_not(mutual: Secured) -> None:
    certificate, key = Authority("another").issue("alice.example").write(mutual.folder, "mallory")
    tls = Tls(ca=mutual.folder / "ca.crt", certificate=certificate, key=key)
    check(failure(mutual.service.grpc_target, tls=tls, tries=1), "TLS_EXPECTED", "certificate", is_certain=False)


def test_a_rotation_under_load_drops_nothing(tls: Secured) -> None:
    stop = threading.Event()
    answered, failed = [0] * 3, list[DenoisedError]()

    def load(index: int) -> None:
        while not stop.is_set():
            try:
                # A connection for each call, so that each meets whatever certificate is shown, and none is retried.
                with Client(tls.service.grpc_target, tls=tls.trust, retry=RetryPolicy(try_count=1)) as client:
                    client.clean(_IMAGE)
                    client.clean(_IMAGE)
            except DenoisedError as error:
                failed.append(error)
                return
            answered[index] += 1

    threads = [threading.Thread(target=load, args=(index,)) for index in range(len(answered))]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before = list(answered)
        tls.show("localhost", "127.0.0.1")
        until(lambda: failed or all(now > was for now, was in zip(answered, before, strict=True)), "all went on")  # noqa: B023 -- called at once
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
