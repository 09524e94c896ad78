"""The store as it changes under a running service: what comes takes over, what fails changes nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from structlog.typing import EventDict

from denoised.contract import ModelContract
from service.engine import EngineOptions, OnnxEngine
from service.metrics import Metrics, Reloaded, ReloadOutcome
from service.registry import Model, load_models
from service.reload import Reloader, ReloadOptions, RollbackRefused, read_labels

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import dimmer

NAME = "gaussian-base"
ONE_LANE = EngineOptions(lane_count=1, batch_pixel_count=64 * 64)
ROOMY = ReloadOptions(memory_bytes=2**30, slower_factor=1e9, poll_s=0.0)
UNIT = np.full((1, 3, 16, 16), 0.5, np.float32)


class Store:
    """A store, and a service that follows it."""

    def __init__(self, folder: Path, contract: ModelContract, metrics: Metrics) -> None:
        self.folder = folder
        self.contract = contract
        self.metrics = metrics
        self.added: list[tuple[str, str]] = []
        self.removed: list[tuple[str, str]] = []
        self.swap_count = 0

    def publish(self, version: str, *, gain: float = 0.5, says: str | None = None, data: bytes | None = None) -> Path:
        """By one rename, as the export does."""
        own = replace(self.contract, version=says or version)
        partial = self.folder / NAME / f".{version}" / version
        partial.mkdir(parents=True)
        (partial / "model.onnx").write_bytes(dimmer(own, gain=gain) if data is None else data)
        return partial.rename(self.folder / NAME / version) / "model.onnx"

    def label(self, text: str) -> None:
        partial = self.folder / NAME / ".labels"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.folder / NAME / "labels.toml")

    def retire(self, version: str) -> None:
        folder = self.folder / NAME / version
        (folder / "model.onnx").unlink()
        folder.rmdir()

    def reloader(self, options: ReloadOptions = ROOMY, engine_options: EngineOptions = ONE_LANE) -> Reloader:
        return Reloader(
            self.folder,
            default_name=NAME,
            precision="fp32",
            engine_options=engine_options,
            options=options,
            add=lambda model: self.added.append(model.key),
            remove=self.removed.append,
            swapped=self._note_swap,
            metrics=self.metrics,
        )

    def began(self, options: ReloadOptions = ROOMY, engine_options: EngineOptions = ONE_LANE) -> Reloader:
        reloader = self.reloader(options, engine_options)
        reloader.begin(list(load_models(self.folder, engine_options)))
        return reloader

    def _note_swap(self) -> None:
        self.swap_count += 1

    def refused_count(self) -> float:
        return self.metrics.reloads[Reloaded.MODEL, ReloadOutcome.REFUSED].value


@pytest.fixture
def store(tmp_path: Path, contract: ModelContract, metrics: Metrics) -> Store:
    store = Store(tmp_path, contract, metrics)
    store.publish("1", gain=0.25)
    return store


def stable(reloader: Reloader) -> str:
    return reloader.registry.get("", "").contract.version


def answer(model: Model) -> float:
    image, _ = model.engine.run(UNIT, lane=0)
    return float(image.max())


async def test_a_new_version_takes_over_and_answers_for_itself(store: Store) -> None:
    reloader = store.began()
    store.publish("2", gain=1.0)
    await reloader.look()
    assert stable(reloader) == "2"
    assert answer(reloader.registry.get("", "")) == 0.5
    assert answer(reloader.registry.get("", "1")) == 0.125
    assert store.added == [(NAME, "2")]


async def test_a_store_that_stays_changes_nothing(store: Store) -> None:
    reloader = store.began()
    before = reloader.registry
    await reloader.look()
    assert reloader.registry is before
    assert store.swap_count == 1


async def test_what_is_being_published_is_not_looked_at(store: Store) -> None:
    reloader = store.began()
    partial = store.folder / NAME / ".x" / "2"
    partial.mkdir(parents=True)
    (partial / "model.onnx").write_bytes(b"half")
    (store.folder / NAME / ".2").mkdir()
    (store.folder / NAME / ".2" / "model.onnx").write_bytes(b"half")
    await reloader.look()
    assert store.refused_count() == 0


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ("corrupted", "changed after it was sealed"),
        ("mislabelled", "its place in the store must be"),
        ("oversized", "DENOISED_MODEL_FILE_BYTES"),
        ("no model", "carries no whole"),
        ("too much memory", "DENOISED_MODELS_MEMORY_BYTES"),
        ("slow", "times as long as version 1"),
    ],
)
async def test_a_version_that_fails_is_refused_once_and_the_old_one_serves_on(
    spoilt: str, says: str, store: Store, logs: list[EventDict]
) -> None:
    first = store.folder / NAME / "1" / "model.onnx"
    engine_options = replace(ONE_LANE, largest_file_bytes=first.stat().st_size + 1000)
    # Faster than anything is, so that any network is too slow.
    options = replace(ROOMY, slower_factor=1e-9) if spoilt == "slow" else ROOMY
    options = replace(options, memory_bytes=1) if spoilt == "too much memory" else options
    reloader = store.began(options, engine_options)
    good = dimmer(replace(store.contract, version="2"), gain=1.0)
    match spoilt:
        case "corrupted":
            at = good.index(b"Mul")
            store.publish("2", data=good[:at] + b"Sub" + good[at + 3 :])
        case "mislabelled":
            store.publish("2", says="3")
        case "oversized":
            store.publish("2", data=good + bytes(2000))
        case "no model":
            store.publish("2", data=b"not a model")
        case _:
            store.publish("2")
    for _ in range(3):
        await reloader.look()
    assert store.refused_count() == 1
    assert stable(reloader) == "1"
    assert answer(reloader.registry.get("", "")) == 0.125
    assert store.added == []
    assert [entry["detail"] for entry in logs if "detail" in entry and says in entry["detail"]]


@pytest.mark.parametrize(("slow_run_count", "is_taken"), [(5, True), (1000, False)])
async def test_a_version_that_others_slowed_down_at_first_is_measured_again(
    slow_run_count: int, store: Store, monkeypatch: pytest.MonkeyPatch, *, is_taken: bool
) -> None:
    """Ten times as long as the one that is served, where four times is too long, in so many of its runs."""
    run_count = 0

    def seconds(engine: OnnxEngine) -> float:
        nonlocal run_count
        if engine.contract.version == "1":
            return 1.0
        run_count += 1
        return 10.0 if run_count <= slow_run_count else 1.0

    monkeypatch.setattr(OnnxEngine, "unit_seconds_per_pixel", seconds)
    reloader = store.began(replace(ROOMY, slower_factor=4.0))
    store.publish("2")
    await reloader.look()
    assert stable(reloader) == ("2" if is_taken else "1")
    assert store.refused_count() == (0 if is_taken else 1)


async def test_a_file_that_was_refused_and_is_mended_is_taken(store: Store) -> None:
    reloader = store.began()
    path = store.publish("2", data=b"not a model")
    await reloader.look()
    good = path.with_name("good")
    good.write_bytes(dimmer(replace(store.contract, version="2"), gain=1.0))
    good.replace(path)
    await reloader.look()
    assert stable(reloader) == "2"


async def test_a_version_that_is_loaded_does_not_change_with_its_file(store: Store) -> None:
    reloader = store.began()
    digest = reloader.registry.get("", "1").digest
    path = store.folder / NAME / "1" / "model.onnx"
    path.write_bytes(dimmer(store.contract, gain=1.0))
    await reloader.look()
    assert reloader.registry.get("", "1").digest == digest


async def test_labels_say_what_is_stable_whatever_is_newest(store: Store) -> None:
    reloader = store.began()
    store.publish("2")
    store.label('stable = "1"')
    await reloader.look()
    assert stable(reloader) == "1"
    store.label('stable = "2"')
    await reloader.look()
    assert stable(reloader) == "2"
    assert reloader.registry.get("", "stable").contract.version == "2"


async def test_a_canary_gets_its_share_of_requests_without_a_version(store: Store) -> None:
    store.publish("2")
    store.label('stable = "1"\ncanary = "2"\ncanary_weight = 0.1')
    reloader = store.began()
    drawn = [reloader.registry.draw("", "") for _ in range(1000)]
    assert sum(model.contract.version == "2" for model, _ in drawn) == pytest.approx(100, abs=1)
    assert all(is_drawn for _, is_drawn in drawn)
    for version, wanted in (("1", "1"), ("2", "2"), ("stable", "1"), ("canary", "2")):
        model, is_drawn = reloader.registry.draw("", version)
        assert (model.contract.version, is_drawn) == (wanted, False)
    assert {key[1]: share for key, share in reloader.registry.shares().items()} == {"1": 0.9, "2": 0.1}
    assert store.metrics.model_share[NAME, "2"].value == 0.1


async def test_labels_that_are_wrong_change_nothing(store: Store, logs: list[EventDict]) -> None:
    store.publish("2")
    store.label('stable = "1"')
    reloader = store.began()
    store.label("stable = 2")
    for _ in range(3):
        await reloader.look()
    assert stable(reloader) == "1"
    assert store.refused_count() == 1
    assert "labels were not taken" in [entry["event"] for entry in logs]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stable = 2", "version as text"),
        ('stable = "two"', "version as text"),
        ('canary_weight = "much"', r"0\.\.1"),
        ("canary_weight = 1.5", r"0\.\.1"),
        ("canary_weight = nan", r"0\.\.1"),
        ("canary_weight = true", r"0\.\.1"),
        ('stabel = "2"', "stabel is unknown"),
        ("stable", "Expected"),
        ("x = 1\n" * 1000, "bytes"),
    ],
)
def test_what_is_wrong_with_labels_is_said(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_labels(path)


async def test_a_rollback_goes_back_at_once_and_lasts_until_something_newer_comes(store: Store) -> None:
    store.publish("2")
    reloader = store.began()
    assert stable(reloader) == "2"
    assert reloader.rollback("").contract.version == "1"
    await reloader.look()
    assert stable(reloader) == "1"
    assert reloader.registry.get("", "2").contract.version == "2"
    store.publish("3")
    await reloader.look()
    assert stable(reloader) == "3"
    assert reloader.rollback(NAME).contract.version == "1"


async def test_a_rollback_outdoes_a_label(store: Store) -> None:
    store.publish("2")
    store.label('stable = "2"\ncanary = "2"\ncanary_weight = 1.0')
    reloader = store.began()
    reloader.rollback("")
    assert {reloader.registry.draw("", "")[0].contract.version for _ in range(9)} == {"1"}


@pytest.mark.parametrize(("name", "says"), [("", "oldest version"), ("sharp", "'sharp' is not loaded")])
async def test_where_there_is_nothing_to_go_back_to_a_rollback_says_so(name: str, says: str, store: Store) -> None:
    reloader = store.began()
    with pytest.raises(RollbackRefused, match=says):
        reloader.rollback(name)
    assert stable(reloader) == "1"


@asynccontextmanager
async def settled(store: Store) -> AsyncIterator[None]:
    """What was told to the loop from elsewhere has been heard."""
    yield
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_version_that_left_the_store_is_closed_once_nothing_uses_it(store: Store) -> None:
    store.publish("2")
    reloader = store.began()
    user = reloader.registry.get("", "1")
    store.retire("1")
    async with settled(store):
        await reloader.look()
    assert [model.contract.version for model in reloader.registry.all()] == ["2"]
    assert store.removed == []
    assert answer(user) == 0.125
    async with settled(store):
        del user
    assert store.removed == [(NAME, "1")]


async def test_a_number_that_is_published_again_waits_for_the_old_one_to_end(store: Store) -> None:
    """Requests that it still has to answer are computed under its name."""
    store.publish("2")
    reloader = store.began()
    user = reloader.registry.get("", "1")
    store.retire("1")
    await reloader.look()
    store.publish("1", gain=1.0)
    await reloader.look()
    assert [model.contract.version for model in reloader.registry.all()] == ["2"]
    async with settled(store):
        del user
    await reloader.look()
    assert answer(reloader.registry.get("", "1")) == 0.5


async def test_a_store_that_is_empty_all_at_once_is_taken_for_a_mistake(store: Store) -> None:
    reloader = store.began()
    store.retire("1")
    await reloader.look()
    assert stable(reloader) == "1"


async def test_memory_of_versions_that_are_still_used_counts(store: Store) -> None:
    reloader = store.began(ROOMY)
    user = reloader.registry.get("", "1")
    reloader._models[user.key] = Model(user.contract, user.digest, user.engine, resident_bytes=2**29, warm_batch=None)
    reloader._options = replace(ROOMY, memory_bytes=2**29)
    store.publish("2")
    await reloader.look()
    assert store.refused_count() == 1
