"""Models by name and version, and what the store refuses before anything is served."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from denoised.contract import FILE_DIGEST_KEY, INT8_MODEL_FILE, MODEL_FILE, ModelContract
from denoised.seal import UNSEALED, seal
from service.engine import EngineOptions, ModelRefused, OnnxEngine
from service.errors import ModelUnknown
from service.registry import Model, Registry, load_models
from service.settings import SHIPPED_MODELS_DIR, PrecisionChoice

ONE_LANE = EngineOptions(lane_count=1, threads_per_lane=1)
SHIPPED_VERSION = "2"
SHIPPED = SHIPPED_MODELS_DIR / "gaussian-base" / SHIPPED_VERSION / "model.onnx"
SHIPPED_KEY = ("gaussian-base", SHIPPED_VERSION)

needs_shipped_model = pytest.mark.skipif(not SHIPPED.exists(), reason=f"no shipped model at {SHIPPED}")


def model(contract: ModelContract, name: str, version: str) -> Model:
    return Model(replace(contract, name=name, version=version), f"digest of {name} {version}", cast("OnnxEngine", None))


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


def test_a_default_that_is_not_loaded_is_refused_with_the_remedy(contract: ModelContract) -> None:
    with pytest.raises(ModelRefused, match=r"'x' is not loaded; loaded: a; set DENOISED_DEFAULT_MODEL .*MODEL_NAMES"):
        Registry([model(contract, "a", "1")], default_name="x")


def test_an_empty_store_is_refused_with_the_way_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"holds no <name>/<version>/model\.onnx; set DENOISED_MODELS_DIR .* export"):
        next(load_models(tmp_path, ONE_LANE))


def test_a_file_that_is_no_model_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelRefused, match=f"{path}: the file carries no whole {FILE_DIGEST_KEY}"):
        next(load_models(tmp_path, ONE_LANE))


def test_a_file_that_is_whole_but_no_model_is_refused_by_its_path(tmp_path: Path) -> None:
    key = FILE_DIGEST_KEY.encode()
    path = place(tmp_path, seal(b"not a model \x0a" + bytes([len(key)]) + key + b"\x12\x40" + UNSEALED.encode()))
    with pytest.raises(ModelRefused, match=f"{path}: the file is no ONNX model"):
        next(load_models(tmp_path, ONE_LANE))


@needs_shipped_model
def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    damaged = bytearray(SHIPPED.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    path = place(tmp_path, bytes(damaged))
    with pytest.raises(ModelRefused, match=f"{path}: the file was changed after it was sealed"):
        next(load_models(tmp_path, ONE_LANE))


@needs_shipped_model
def test_other_networks_in_a_models_folder_are_left_alone(tmp_path: Path) -> None:
    path = place(tmp_path, SHIPPED.read_bytes())
    for name in ("encoder.onnx", "decoder.onnx"):
        path.with_name(name).write_bytes(b"never read")
    assert [loaded.key for loaded in load_models(tmp_path, ONE_LANE)] == [SHIPPED_KEY]


def place(
    store: Path,
    model_bytes: bytes,
    *,
    name: str = "gaussian-base",
    version: str = SHIPPED_VERSION,
    file_name: str = MODEL_FILE,
) -> Path:
    path = store / name / version / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model_bytes)
    return path


@needs_shipped_model
def test_a_model_in_its_place_is_loaded_and_checked(tmp_path: Path) -> None:
    place(tmp_path, SHIPPED.read_bytes())
    shutil.copy(SHIPPED, tmp_path / "gaussian-base" / "model.onnx")  # no <version>/: none of the store's
    (loaded,) = load_models(tmp_path, ONE_LANE)
    assert loaded.key == SHIPPED_KEY
    assert len(loaded.digest) == 64
    assert loaded.resident_bytes >= 0
    assert loaded.warm_batch is not None
    warm = loaded.warm_batch
    assert warm.height_px * warm.width_px * warm.count == ONE_LANE.batch_pixel_count
    assert loaded.warm_batch.seconds > 0


@needs_shipped_model
def test_models_are_loaded_one_by_one_as_they_are_asked_for(tmp_path: Path) -> None:
    """Whoever stops asking waits for no other model; the second file here could not even be loaded."""
    place(tmp_path, SHIPPED.read_bytes())
    place(tmp_path, b"not a model", name="z")
    loading = load_models(tmp_path, ONE_LANE)
    assert next(loading).key == SHIPPED_KEY
    loading.close()
    with pytest.raises(StopIteration):
        next(loading)


@needs_shipped_model
@pytest.mark.parametrize(("name", "version"), [("gaussian-base", "1"), ("other", SHIPPED_VERSION)])
def test_a_model_in_another_models_place_is_refused(tmp_path: Path, name: str, version: str) -> None:
    place(tmp_path, SHIPPED.read_bytes(), name=name, version=version)
    with pytest.raises(
        ModelRefused, match=f"says that it is gaussian-base/{SHIPPED_VERSION}; its place in the store must be"
    ):
        next(load_models(tmp_path, ONE_LANE))


@needs_shipped_model
def test_a_model_that_does_not_reproduce_its_golden_pair_is_refused(tmp_path: Path) -> None:
    """The file's own expectation is replaced by another picture of the same length; the network stays."""
    model_bytes = SHIPPED.read_bytes()
    (loaded,) = load_models(SHIPPED_MODELS_DIR, ONE_LANE, name_pattern=SHIPPED_KEY[0])
    golden = loaded.contract.golden
    other = base64.b64encode((golden.denoised() ^ 0x40).tobytes())
    assert model_bytes.count(golden.denoised_base64.encode()) == 1
    place(tmp_path, seal(model_bytes.replace(golden.denoised_base64.encode(), other)))
    with pytest.raises(
        ModelRefused, match=r"differs from its golden pair by \d+ levels on CPUEx.*; at most 1 is right"
    ):
        next(load_models(tmp_path, ONE_LANE))


@needs_shipped_model
def test_a_model_without_a_contract_is_refused(tmp_path: Path) -> None:
    place(tmp_path, seal(SHIPPED.read_bytes().replace(b"denoised.schema_version", b"somebody.schema_version")))
    with pytest.raises(ModelRefused, match="carries no model contract; export it with"):
        next(load_models(tmp_path, ONE_LANE))


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed_store(contract: ModelContract, tmp_path: Path) -> Path:
    """``both`` in two precisions, which answer differently, and ``single`` in floats alone."""
    pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")
    from tests.tiny_models import dimmer

    for name in ("both", "single"):
        place(tmp_path, dimmer(replace(contract, name=name), gain=0.5), name=name, version="1")
    int8 = dimmer(replace(contract, name="both", precision="int8"), gain=0.25)
    place(tmp_path, int8, name="both", version="1", file_name=INT8_MODEL_FILE)
    return tmp_path


@pytest.mark.parametrize(
    ("precision", "served"),
    [
        ("fp32", {"both": "fp32", "single": "fp32"}),
        ("int8-where-present", {"both": "int8", "single": "fp32"}),
    ],
)
def test_the_setting_chooses_among_the_files_of_a_version(
    mixed_store: Path, precision: PrecisionChoice, served: dict[str, str]
) -> None:
    loaded = list(load_models(mixed_store, ONE_LANE, precision=precision))
    assert {model.contract.name: model.contract.precision for model in loaded} == served
    assert all(model.key == (model.contract.name, "1") for model in loaded)


def test_int8_alone_is_served_where_every_model_has_it(mixed_store: Path) -> None:
    (loaded,) = load_models(mixed_store, ONE_LANE, precision="int8", name_pattern="both")
    assert loaded.contract.precision == "int8"


def test_int8_refuses_a_store_in_which_a_model_lacks_it_before_anything_is_loaded(mixed_store: Path) -> None:
    (mixed_store / "both" / "1" / INT8_MODEL_FILE).write_bytes(b"never read")
    with pytest.raises(ModelRefused, match=r"is int8, and single/1 has no model\.int8\.onnx: .*int8-where-present"):
        next(load_models(mixed_store, ONE_LANE, precision="int8"))


def test_a_version_in_int8_alone_is_refused_where_floats_are_asked_for(mixed_store: Path) -> None:
    (mixed_store / "both" / "1" / MODEL_FILE).unlink()
    with pytest.raises(ModelRefused, match=r"DENOISED_PRECISION is fp32, and both/1 has no model\.onnx"):
        next(load_models(mixed_store, ONE_LANE))


@pytest.mark.parametrize(("file_name", "other"), [(MODEL_FILE, INT8_MODEL_FILE), (INT8_MODEL_FILE, MODEL_FILE)])
def test_a_file_of_another_precision_than_its_name_says_is_refused(
    mixed_store: Path, file_name: str, other: str
) -> None:
    folder = mixed_store / "both" / "1"
    shutil.copy(folder / other, folder / file_name)
    precision: PrecisionChoice = "int8" if file_name == INT8_MODEL_FILE else "fp32"
    with pytest.raises(ModelRefused, match=rf"as such its name must be {other}"):
        list(load_models(mixed_store, ONE_LANE, precision=precision, name_pattern="both"))
