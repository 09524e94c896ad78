"""Versions that change under load: nothing is dropped, and each answer is that of the version which it names."""

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import grpc
import numpy as np
import pytest

from denoised.contract import ModelContract
from denoised.v1 import denoised_pb2 as pb
from service.identities import new_token
from tests.integration import harness
from tests.integration.harness import LIMIT_S, RunningService, connected, until
from tests.integration.oracle import Oracle, to_unit
from tests.integration.pictures import noisy, raw_request

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import dimmer

_NAME = "dimmer"
_PIXELS = noisy(1, 96, 80)
_REQUEST = raw_request(_PIXELS)
_RELOAD_COUNT = 20


@dataclass(frozen=True, slots=True)
class Store:
    """Networks that can be told apart by what they make of a picture."""

    folder: Path
    contract: ModelContract

    def path(self, version: int) -> Path:
        return self.folder / _NAME / str(version) / "model.onnx"

    def network(self, version: int) -> bytes:
        return dimmer(replace(self.contract, version=str(version)), gain=0.3 + version / 50)

    def publish(self, version: int, data: bytes | None = None) -> None:
        partial = self.folder / _NAME / f".{version}" / str(version)
        partial.mkdir(parents=True)
        (partial / "model.onnx").write_bytes(self.network(version) if data is None else data)
        partial.rename(self.folder / _NAME / str(version))

    def retire(self, version: int) -> None:
        self.path(version).unlink()
        self.path(version).parent.rmdir()


@dataclass(frozen=True, slots=True)
class Live:
    """A service and the store that it follows."""

    store: Store
    service: RunningService

    def admin(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.http_port, timeout=LIMIT_S)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def stable(self) -> str:
        status, text = self.admin("GET", "/admin/models")
        assert status == 200
        (version,) = (str(each["version"]) for each in json.loads(text) if each["share"] == 1.0)
        return version

    def loaded_count(self) -> int:
        return sum(name == "denoised_model_info" for name, _ in self.service.metrics().samples)

    def refused_count(self) -> float:
        return self.service.metric("denoised_reloads_total", what="model", outcome="refused")


def store_of(folder: Path, oracle: Oracle) -> Store:
    multiple_px = oracle.contract.size_multiple_px
    contract = replace(
        oracle.contract,
        name=_NAME,
        version="1",
        unit_edges_px=(4 * multiple_px, 8 * multiple_px),
        halo_px=multiple_px,
    )
    return Store(folder, contract)


@pytest.fixture
def live(oracle: Oracle, tmp_path: Path) -> Iterator[Live]:
    store = store_of(tmp_path / "store", oracle)
    store.publish(1)
    settings = {"models_dir": store.folder, "default_model": _NAME, "models_poll_s": 0.02, "model_file_bytes": 100_000}
    with harness.launched(tmp_path, lane_count=2, **settings) as process:
        yield Live(store, harness.ready(process, tmp_path))
        # Models that are refused are logged as errors, so that the log is not looked at.
        assert process.poll() is None


class Load:
    """Clients that ask without a pause, alone and in streams, and keep what they got."""

    def __init__(self, target: str) -> None:
        self.answers: dict[str, set[bytes]] = {}
        self.failures: list[object] = []
        self.count = 0
        self._target = target
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._alone, self._alone, self._streams)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Returns once requests that began after this were answered, or one failed."""
        enough = self.count + 12
        until(lambda: self.failures or self.count >= enough, "the load went on")

    def _alone(self) -> None:
        with connected(self._target) as stub:
            while not self._stop.is_set():
                try:
                    self._note(stub.Denoise(_REQUEST))
                except grpc.RpcError as error:
                    self.failures.append(error)
                    return

    def _streams(self) -> None:
        with connected(self._target) as stub:
            while not self._stop.is_set():
                frames = [pb.DenoiseStreamRequest(item_id=str(index), request=_REQUEST) for index in range(8)]
                try:
                    for answer in stub.DenoiseStream(iter(frames)):
                        if answer.result.HasField("status"):
                            self.failures.append(answer.result.status)
                            return
                        self._note(answer.result.response)
                except grpc.RpcError as error:
                    self.failures.append(error)
                    return

    def _note(self, response: pb.DenoiseResponse) -> None:
        self.answers.setdefault(response.model.digest, set()).add(response.image.raw.data)
        self.count += 1


def test_twenty_reloads_under_load_drop_nothing_and_every_answer_is_its_version_s(live: Live) -> None:
    versions = range(2, 2 + _RELOAD_COUNT)
    with Load(live.service.grpc_target) as load:
        for version in versions:
            live.store.publish(version)
            until(
                lambda: load.failures or live.refused_count() or live.stable() == str(version),  # noqa: B023 -- called at once
                f"version {version} was stable",
            )
            assert live.refused_count() == 0, live.service.log()
            load.go_on()
    assert load.failures == []
    # Each of them answered something, because each was stable until requests that came after it were answered.
    assert len(load.answers) >= _RELOAD_COUNT
    oracles = {oracle.digest: oracle for oracle in map(Oracle, map(live.store.path, (1, *versions)))}
    for digest, answers in load.answers.items():
        (answer,) = answers
        wanted = oracles[digest].denoise(to_unit(_PIXELS)).levels
        np.testing.assert_allclose(
            np.frombuffer(answer, np.uint8).reshape(wanted.shape).astype(int), wanted.astype(int), atol=1
        )
    with connected(live.service.grpc_target) as stub:
        for digest, answers in load.answers.items():
            request = pb.DenoiseRequest()
            request.CopyFrom(_REQUEST)
            request.options.model_version = oracles[digest].contract.version
            assert answers == {stub.Denoise(request).image.raw.data}
    for version in (1, *versions[:-1]):
        live.store.retire(version)
    until(lambda: live.loaded_count() == 1, "the versions that left were closed")


def test_versions_that_fail_are_refused_under_load_and_the_old_one_serves_on(live: Live) -> None:
    good = live.store.network(2)
    cut = len(good) // 2
    spoilt = [
        good[:cut] + bytes([good[cut] ^ 1]) + good[cut + 1 :],
        good + bytes(100_000),
        live.store.network(9),
        b"",
    ]
    with Load(live.service.grpc_target) as load:
        for index, data in enumerate(spoilt):
            live.store.publish(2 + index, data)
            until(lambda: load.failures or live.refused_count() == index + 1, "it was refused")  # noqa: B023 -- called at once
            load.go_on()
            assert live.stable() == "1"
    assert load.failures == []
    assert load.answers.keys() == {Oracle(live.store.path(1)).digest}


def test_a_rollback_counts_for_the_very_next_call(live: Live) -> None:
    live.store.publish(2)
    until(lambda: live.stable() == "2", "version 2 was stable")
    with connected(live.service.grpc_target) as stub, Load(live.service.grpc_target) as load:
        assert stub.Denoise(_REQUEST).model.version == "2"
        status, _ = live.admin("POST", f"/admin/rollback?model={_NAME}")
        assert status == 200
        assert stub.Denoise(_REQUEST).model.version == "1"
        load.go_on()
    assert load.failures == []
    status, text = live.admin("POST", f"/admin/rollback?model={_NAME}")
    assert (status, "oldest version" in text) == (409, True)


def test_a_canary_answers_its_share_and_says_so(live: Live) -> None:
    labels = live.store.folder / _NAME / "labels.toml"
    labels.write_text('stable = "1"\ncanary = "2"\ncanary_weight = 0.25', encoding="utf-8")
    live.store.publish(2)
    until(lambda: live.service.metric("denoised_model_share", model=_NAME, version="2") == 0.25, "the canary was there")
    with connected(live.service.grpc_target) as stub:
        versions = [stub.Denoise(_REQUEST).model.version for _ in range(40)]
    assert versions.count("2") == 10


def test_pages_of_other_sites_can_not_make_a_browser_on_this_machine_change_anything(live: Live) -> None:
    assert live.admin("POST", "/admin/rollback", Origin="https://evil.example")[0] == 403
    assert live.admin("GET", "/admin/rollback")[0] == 405


def test_with_a_file_of_callers_only_its_admins_may(oracle: Oracle, tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", oracle)
    store.publish(1)
    boss, user = new_token("boss"), new_token("user")
    file = tmp_path / "callers.toml"
    file.write_text(
        f'[callers.boss]\ntoken_sha256 = ["{boss.sha256}"]\nadmin = true\n'
        f'[callers.user]\ntoken_sha256 = ["{user.sha256}"]\n',
        encoding="utf-8",
    )
    settings = {"models_dir": store.folder, "default_model": _NAME, "models_poll_s": 0, "callers_file": file}
    with harness.running(tmp_path, lane_count=1, **settings) as service:
        live = Live(store, service)
        assert live.admin("GET", "/admin/models")[0] == 403
        assert live.admin("GET", "/admin/models", Authorization=f"Bearer {user.token}")[0] == 403
        assert live.admin("GET", "/admin/models", Authorization=f"Bearer {boss.token}")[0] == 200
        store.publish(2)
        status, text = live.admin("POST", "/admin/reload", Authorization=f"Bearer {boss.token}")
        assert (status, [each["version"] for each in json.loads(text)]) == (200, ["1", "2"])
        assert service.http("/metrics")[0] == service.http("/healthz")[0] == service.http("/readyz")[0] == 200
