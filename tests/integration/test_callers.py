"""Callers of a running service: who is let in, what they get, and what a changed file does to calls under way."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import click
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from denoised import AccessDeniedError, Client, DenoisedError, OverloadedError, RetryPolicy, Tls
from denoised.cli import main
from denoised.v1 import denoised_pb2 as pb
from service.identities import NewToken, new_token
from tests.certificates import Authority
from tests.integration import harness
from tests.integration.harness import CHANNEL_OPTIONS, RunningService, connected, until
from tests.integration.pictures import noisy, raw_request
from tests.integration.refusals import refusal_of_status, refused, trailer

_IMAGE = np.full((64, 64, 3), 128, np.uint8)
_REQUEST = raw_request(noisy(1, 64, 64))
_ONCE = RetryPolicy(try_count=1)


@dataclass(slots=True)
class Guarded:
    """A service with a file of callers."""

    service: RunningService
    file: Path
    tokens: dict[str, NewToken]

    def write(self, *extra: str, without: str = "") -> None:
        """Replaces the file, and returns once it is used."""
        taken = self._taken()
        _write(self.file, {name: token for name, token in self.tokens.items() if name != without}, *extra)
        until(lambda: self._taken() > taken, "the file was taken")

    def _taken(self) -> float:
        return self.service.metric("denoised_reloads_total", what="callers", outcome="taken")

    def client(self, name: str) -> Client:
        return Client(self.service.grpc_target, token=self.tokens[name].token, retry=_ONCE)

    def header(self, name: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.tokens[name].token}"),)


_QUOTAS = {
    "alice": "",
    "few": "requests_per_s = 0.001",
    "small": "pixels_per_s = 0.001",
    "short": "bytes_per_s = 0.001",
    "single": "concurrency = 2",
    "night": 'most_urgent_class = "bulk"',
}


def _write(file: Path, tokens: dict[str, NewToken], *extra: str) -> None:
    tables = [
        f'[callers.{name}]\ntoken_sha256 = ["{token.sha256}"]\n{_QUOTAS.get(name, "")}'
        for name, token in tokens.items()
    ]
    partial = file.with_suffix(".partial")
    partial.write_text("\n".join([*tables, *extra]), encoding="utf-8")
    partial.replace(file)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file, tokens = folder / "callers.toml", {name: new_token(name) for name in _QUOTAS}
    _write(file, tokens)
    with harness.running(folder, callers_file=file, credentials_poll_s=0.01, lane_count=1) as service:
        yield Guarded(service, file, tokens)


def test_a_caller_with_a_token_is_answered(guarded: Guarded) -> None:
    with guarded.client("alice") as client:
        assert client.clean(_IMAGE).image.shape == _IMAGE.shape
        assert all(not isinstance(outcome, Exception) for _, outcome in client.clean_many([_IMAGE] * 3))


@pytest.mark.parametrize("method", ["Denoise", "DenoiseBatch", "ListModels", "GetModel"])
def test_every_method_refuses_who_has_none(method: str, guarded: Guarded) -> None:
    requests = {
        "Denoise": _REQUEST,
        "DenoiseBatch": pb.DenoiseBatchRequest(requests=[_REQUEST]),
        "ListModels": pb.ListModelsRequest(),
        "GetModel": pb.GetModelRequest(),
    }
    with connected(guarded.service.grpc_target) as stub:
        refusal = refused(lambda: getattr(stub, method)(requests[method]))
    assert (refusal.code, refusal.reason, refusal.retry_after_s) == ("UNAUTHENTICATED", "UNAUTHENTICATED", None)
    assert "authorization: Bearer TOKEN" in refusal.message


def test_so_does_the_stream(guarded: Guarded) -> None:
    with connected(guarded.service.grpc_target) as stub:
        refusal = refused(lambda: list(stub.DenoiseStream(iter([pb.DenoiseStreamRequest(request=_REQUEST)]))))
    assert refusal.reason == "UNAUTHENTICATED"


def test_a_wrong_token_is_an_error_of_its_own_in_the_client(guarded: Guarded) -> None:
    with (
        Client(guarded.service.grpc_target, token=new_token("alice").token) as client,
        pytest.raises(AccessDeniedError, match="unknown or was revoked"),
    ):
        client.clean(_IMAGE)


def test_health_asks_nobody(guarded: Guarded) -> None:
    with grpc.insecure_channel(guarded.service.grpc_target, CHANNEL_OPTIONS) as channel:
        check: Callable[..., health_pb2.HealthCheckResponse] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(("name", "cap"), [("few", "requests"), ("small", "pixels"), ("short", "bytes")])
def test_a_quota_that_is_used_up_refuses_and_says_when_to_come_back(name: str, cap: str, guarded: Guarded) -> None:
    refusals = guarded.service.metric("denoised_refusals_total", reason="CLIENT_QUOTA")
    with connected(guarded.service.grpc_target) as stub:
        stub.Denoise(_REQUEST, metadata=guarded.header(name))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Denoise(_REQUEST, metadata=guarded.header(name))
    assert trailer(caught.value, "grpc-retry-pushback-ms") is not None
    refusal = refused(lambda: (_ for _ in ()).throw(caught.value))
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "CLIENT_QUOTA")
    assert f"{cap} per second" in refusal.message
    assert refusal.retry_after_s is not None
    assert guarded.service.metric("denoised_refusals_total", reason="CLIENT_QUOTA") == refusals + 1
    with guarded.client(name) as client, pytest.raises(OverloadedError) as overloaded:
        client.clean(_IMAGE)
    assert overloaded.value.reason == "CLIENT_QUOTA"
    with guarded.client("alice") as client:
        client.clean(_IMAGE)


def test_items_of_a_stream_are_charged_one_by_one(guarded: Guarded) -> None:
    """Two under way: the stream itself, and one item; both items are in before one is answered."""
    frames = [
        pb.DenoiseStreamRequest(item_id=str(index), request=raw_request(noisy(1, 512, 512))) for index in range(4)
    ]
    with connected(guarded.service.grpc_target) as stub:
        answers = list(stub.DenoiseStream(iter(frames), metadata=guarded.header("single")))
        reasons = [refusal_of_status(a.result.status).reason for a in answers if a.result.HasField("status")]
        assert len(answers) == 4
        assert reasons
        assert set(reasons) == {"CLIENT_QUOTA"}
        # All have left.
        again = list(stub.DenoiseStream(iter(frames[:1]), metadata=guarded.header("single")))
    assert not again[0].result.HasField("status")


def test_a_token_that_is_revoked_is_refused_in_streams_that_are_open(guarded: Guarded) -> None:
    frames: SimpleQueue[pb.DenoiseStreamRequest | None] = SimpleQueue()
    guarded.tokens["gone"] = new_token("gone")
    guarded.write()
    try:
        with connected(guarded.service.grpc_target) as stub:
            answers = stub.DenoiseStream(iter(frames.get, None), metadata=guarded.header("gone"))
            frames.put(pb.DenoiseStreamRequest(item_id="before", request=_REQUEST))
            assert not next(answers).result.HasField("status")
            guarded.write(without="gone")
            frames.put(pb.DenoiseStreamRequest(item_id="after", request=_REQUEST))
            assert refusal_of_status(next(answers).result.status).reason == "UNAUTHENTICATED"
            assert refused(lambda: stub.Denoise(_REQUEST, metadata=guarded.header("gone"))).reason == "UNAUTHENTICATED"
            frames.put(None)
            assert list(answers) == []
    finally:
        del guarded.tokens["gone"]


def test_a_rotation_of_tokens_under_load_drops_nothing(guarded: Guarded) -> None:
    """Both tokens hold while clients move from one to the other."""
    stop, failed, answered = threading.Event(), list[DenoisedError](), [0, 0]

    def load(index: int) -> None:
        while not stop.is_set():
            try:
                with guarded.client("alice") as client:
                    client.clean(_IMAGE)
            except DenoisedError as error:
                failed.append(error)
                return
            answered[index] += 1

    threads = [threading.Thread(target=load, args=(index,)) for index in range(len(answered))]
    for thread in threads:
        thread.start()
    for _ in range(5):
        old, new = guarded.tokens["alice"], new_token("alice")
        both = f'[callers.alice]\ntoken_sha256 = ["{old.sha256}", "{new.sha256}"]'
        guarded.write(both, without="alice")
        guarded.tokens["alice"] = new
        before = list(answered)
        # Each has begun a call after the new one was there to be used.
        until(lambda: failed or all(n > b + 1 for n, b in zip(answered, before, strict=True)), "all went on")  # noqa: B023 -- called at once
        guarded.write()
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_file_that_is_wrong_is_not_taken_and_the_one_before_goes_on(
    guarded: Guarded, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("wrong")
    file, tokens = folder / "callers.toml", {"alice": new_token("alice")}
    _write(file, tokens)
    with harness.launched(folder, callers_file=file, credentials_poll_s=0.01, lane_count=1) as process:
        service = harness.ready(process, folder)
        file.write_text("[callers", encoding="utf-8")
        until(
            lambda: service.metric("denoised_reloads_total", what="callers", outcome="refused"), "the file was refused"
        )
        with Client(service.grpc_target, token=tokens["alice"].token) as client:
            client.clean(_IMAGE)
    assert "is no TOML" in service.log()


def test_a_service_with_a_file_that_is_wrong_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "callers.toml"
    file.write_text("[callers.Alice]", encoding="utf-8")
    with harness.launched(tmp_path, callers_file=file) as process:
        assert process.wait(harness.LIMIT_S) == 1
    assert "callers.Alice" in (tmp_path / "service.log").read_text(encoding="utf-8")


def test_a_certificate_s_name_is_as_good_as_a_token(tmp_path: Path) -> None:
    authority = Authority()
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    certificate, key = authority.issue("localhost", "127.0.0.1").write(tmp_path)
    file = tmp_path / "callers.toml"
    file.write_text("[callers.alice]\ncertificate_names = ['alice.example']", encoding="utf-8")
    settings = {"tls_certificate_file": certificate, "tls_key_file": key, "tls_client_ca_file": ca}
    with harness.running(tmp_path, callers_file=file, lane_count=1, **settings) as service:
        for name, is_let_in in (("alice.example", True), ("bob.example", False)):
            shown = authority.issue(name).write(tmp_path, name)
            with Client(service.grpc_target, tls=Tls(ca, *shown)) as client:
                if is_let_in:
                    assert client.models()
                else:
                    with pytest.raises(AccessDeniedError, match=r"'bob\.example'"):
                        client.models()


def test_callers_are_in_the_log_and_in_no_metric(guarded: Guarded) -> None:
    with connected(guarded.service.grpc_target) as stub:
        bad = pb.DenoiseRequest(options=pb.DenoiseOptions(model="none"))
        refused(lambda: stub.Denoise(bad, metadata=guarded.header("alice")))
    until(lambda: '"caller": "alice"' in guarded.service.log(), "the refusal was logged with its caller")
    assert "alice" not in guarded.service.http("/metrics")[1]
    assert guarded.tokens["alice"].token not in guarded.service.log()


def test_a_class_is_capped_and_the_answer_is_the_same(guarded: Guarded) -> None:
    urgent = pb.DenoiseRequest()
    urgent.CopyFrom(_REQUEST)
    urgent.options.service_class = pb.SERVICE_CLASS_INTERACTIVE
    with connected(guarded.service.grpc_target) as stub:
        capped = stub.Denoise(urgent, metadata=guarded.header("night"))
        plain = stub.Denoise(_REQUEST, metadata=guarded.header("alice"))
    assert capped.image == plain.image


def test_the_command_line_shows_its_token_and_trusts_what_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, token = Authority(), new_token("alice")
    ca, file, token_file = tmp_path / "ca.crt", tmp_path / "callers.toml", tmp_path / "token"
    ca.write_bytes(authority.certificate)
    token_file.write_text(f"{token.token}\n", encoding="ascii")
    _write(file, {"alice": token})
    certificate, key = authority.issue("denoised.example").write(tmp_path)
    settings = {"tls_certificate_file": certificate, "tls_key_file": key, "callers_file": file}
    with harness.running(tmp_path, lane_count=1, **settings) as service:
        models = ["models", "--server", service.grpc_target, "--tls-ca", str(ca)]
        named = [*models, "--tls-server-name", "denoised.example"]
        assert main([*named, "--token-file", str(token_file)], standalone_mode=False) is None
        assert "gaussian-base" in capsys.readouterr().out
        with pytest.raises(click.ClickException, match="authorization: Bearer TOKEN"):
            main(named, standalone_mode=False)
        with pytest.raises(click.ClickException, match="--tls-server-name"):
            main(models, standalone_mode=False)
        with pytest.raises(click.UsageError, match="together with its key"):
            main([*named, "--tls-cert", str(certificate)], standalone_mode=False)


def test_a_name_as_long_as_a_message_is_refused_in_a_few_words(guarded: Guarded) -> None:
    long = pb.DenoiseRequest(options=pb.DenoiseOptions(model="x" * 1_000_000))
    with connected(guarded.service.grpc_target) as stub:
        refusal = refused(lambda: stub.Denoise(long, metadata=guarded.header("alice")))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
    assert len(refusal.message) < 1100


def test_metadata_that_is_too_long_ends_the_call_alone(guarded: Guarded) -> None:
    with connected(guarded.service.grpc_target) as stub:
        long = (*guarded.header("alice"), ("x-filler", "x" * 20_000))
        assert refused(lambda: stub.Denoise(_REQUEST, metadata=long)).code == "RESOURCE_EXHAUSTED"
        assert stub.Denoise(_REQUEST, metadata=guarded.header("alice")).image
