"""Models by name and version, and what the store refuses before anything is served."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from denoised.contract import FILE_DIGEST_KEY, ModelContract
from denoised.seal import UNSEALED, seal
from service.engine import EngineOptions, ModelRefused, OnnxEngine
from service.errors import ModelUnknown
from service.registry import Model, Registry, load_models, warm_up
from service.settings import SHIPPED_MODELS_DIR

ONE_LANE = EngineOptions(lane_count=1, threads_per_lane=1)
SHIPPED = SHIPPED_MODELS_DIR / "gaussian-base" / "1" / "model.onnx"

needs_shipped_model = pytest.mark.skipif(not SHIPPED.exists(), reason=f"no shipped model at {SHIPPED}")


class FakeEngine:
    """Of a loaded file, what the registry looks at; remembers what it ran."""

    def __init__(self, *shapes: tuple[int, int]) -> None:
        self.shapes = shapes
        self.runs: list[tuple[tuple[int, ...], int]] = []

    def unit_shapes(self) -> tuple[tuple[int, int], ...]:
        return self.shapes

    def run(self, units: Any, *, lane: int) -> None:
        assert units.dtype == np.float32
        self.runs.append((units.shape, lane))


def model(contract: ModelContract, name: str, version: str, engine: FakeEngine | None = None) -> Model:
    return Model(
        replace(contract, name=name, version=version), f"digest of {name} {version}", cast("OnnxEngine", engine)
    )


@pytest.fixture
def registry(contract: ModelContract) -> Registry:
    places = [("b", "10"), ("b", "9"), ("b", "1"), ("a", "2"), ("c", "3")]
    return Registry([model(contract, *place) for place in places], default_name="b")


def test_models_are_listed_by_name_then_by_version_as_numbers(registry: Registry) -> None:
    assert [each.key for each in registry.all()] == [("a", "2"), ("b", "1"), ("b", "9"), ("b", "10"), ("c", "3")]


@pytest.mark.parametrize(
    ("name", "version", "key"),
    [
        ("", "", ("b", "10")),
        ("b", "", ("b", "10")),
        ("b", "9", ("b", "9")),
        ("", "1", ("b", "1")),
        ("a", "", ("a", "2")),
    ],
)
def test_no_name_means_the_default_and_no_version_the_newest(
    registry: Registry, name: str, version: str, key: tuple[str, str]
) -> None:
    assert registry.get(name, version).key == key


def test_an_unknown_name_is_refused_with_those_that_are_loaded(registry: Registry) -> None:
    with pytest.raises(ModelUnknown, match="model 'sharp' is not loaded; loaded: a, b, c"):
        registry.get("sharp", "")


@pytest.mark.parametrize("name", ["b", ""])
def test_an_unknown_version_is_refused_with_the_models_name_and_its_versions(registry: Registry, name: str) -> None:
    """The name is told even when the request left it out."""
    with pytest.raises(ModelUnknown, match="model 'b' has no version '7' loaded; loaded: 1, 9, 10"):
        registry.get(name, "7")


def test_a_default_that_is_not_in_the_store_is_refused_with_the_remedy(contract: ModelContract) -> None:
    with pytest.raises(ModelRefused, match=r"'x' is not in the store, which holds: a; set DENOISED_DEFAULT_MODEL"):
        Registry([model(contract, "a", "1")], default_name="x")


def test_warming_up_runs_every_shape_once_on_the_lane_that_was_named(contract: ModelContract) -> None:
    engine = FakeEngine((16, 16), (16, 32), (32, 32))
    warm_up(model(contract, "a", "1", engine), lane=1)
    assert engine.runs == [((1, 3, 16, 16), 1), ((1, 3, 16, 32), 1), ((1, 3, 32, 32), 1)]


def test_an_empty_store_is_refused_with_the_way_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"holds no <name>/<version>/model\.onnx; set DENOISED_MODELS_DIR .* export"):
        load_models(tmp_path, ONE_LANE)


def test_a_file_that_is_no_model_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelRefused, match=f"{path}: the file carries no whole {FILE_DIGEST_KEY}"):
        load_models(tmp_path, ONE_LANE)


def test_a_file_that_is_whole_but_no_model_is_refused_by_its_path(tmp_path: Path) -> None:
    key = FILE_DIGEST_KEY.encode()
    path = place(tmp_path, seal(b"not a model \x0a" + bytes([len(key)]) + key + b"\x12\x40" + UNSEALED.encode()))
    with pytest.raises(ModelRefused, match=f"{path} is no model that ONNX Runtime can load"):
        load_models(tmp_path, ONE_LANE)


@needs_shipped_model
def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    damaged = bytearray(SHIPPED.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path = place(tmp_path, bytes(damaged))
    with pytest.raises(ModelRefused, match=f"{path}: the file was changed after it was sealed"):
        load_models(tmp_path, ONE_LANE)


@needs_shipped_model
def test_other_networks_in_a_models_folder_are_left_alone(tmp_path: Path) -> None:
    path = place(tmp_path, SHIPPED.read_bytes())
    for name in ("encoder.onnx", "decoder.onnx"):
        path.with_name(name).write_bytes(b"never read")
    assert [loaded.key for loaded in load_models(tmp_path, ONE_LANE)] == [("gaussian-base", "1")]


def place(store: Path, model_bytes: bytes, *, name: str = "gaussian-base", version: str = "1") -> Path:
    path = store / name / version / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(model_bytes)
    return path


@needs_shipped_model
def test_a_model_in_its_place_is_loaded_and_checked(tmp_path: Path) -> None:
    place(tmp_path, SHIPPED.read_bytes())
    shutil.copy(SHIPPED, tmp_path / "gaussian-base" / "model.onnx")  # no <version>/: none of the store's
    (loaded,) = load_models(tmp_path, ONE_LANE)
    assert loaded.key == ("gaussian-base", "1")
    assert len(loaded.digest) == 64


@needs_shipped_model
@pytest.mark.parametrize(("name", "version"), [("gaussian-base", "2"), ("other", "1")])
def test_a_model_in_another_models_place_is_refused(tmp_path: Path, name: str, version: str) -> None:
    place(tmp_path, SHIPPED.read_bytes(), name=name, version=version)
    with pytest.raises(ModelRefused, match="says that it is gaussian-base/1; its place in the store must be"):
        load_models(tmp_path, ONE_LANE)


@needs_shipped_model
def test_a_model_that_does_not_reproduce_its_golden_pair_is_refused(tmp_path: Path) -> None:
    """The file's own expectation is replaced by another picture of the same length; the network stays."""
    model_bytes = SHIPPED.read_bytes()
    (loaded,) = load_models(SHIPPED_MODELS_DIR, ONE_LANE)
    golden = loaded.contract.golden
    other = base64.b64encode((golden.denoised() ^ 0x40).tobytes())
    assert model_bytes.count(golden.denoised_base64.encode()) == 1
    place(tmp_path, seal(model_bytes.replace(golden.denoised_base64.encode(), other)))
    with pytest.raises(ModelRefused, match=r"differs from its golden pair by \d+ levels on lane 0; at most 1 is right"):
        load_models(tmp_path, ONE_LANE)


@needs_shipped_model
def test_a_model_without_a_contract_is_refused(tmp_path: Path) -> None:
    place(tmp_path, seal(SHIPPED.read_bytes().replace(b"denoised.schema_version", b"somebody.schema_version")))
    with pytest.raises(ModelRefused, match="carries no model contract; export it with"):
        load_models(tmp_path, ONE_LANE)
