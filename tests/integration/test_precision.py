"""fp32 or int8 is a setting of the service: clients name the same model and get the chosen file's pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denoised import Client
from denoised.contract import INT8_MODEL_FILE, MODEL_FILE, Precision
from service.demo.process import log_of
from tests.integration import harness
from tests.integration.oracle import Oracle

pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")

from tests.tiny_models import dimmer

_GAINS: dict[Precision, float] = {"fp32": 0.5, "int8": 0.25}
_FILES: tuple[tuple[str, Precision, str], ...] = (
    ("both", "fp32", MODEL_FILE),
    ("both", "int8", INT8_MODEL_FILE),
    ("single", "fp32", MODEL_FILE),
)


@pytest.fixture
def store(oracle: Oracle, tmp_path: Path) -> Path:
    """``both`` in two precisions, which answer differently, and ``single`` in floats alone."""
    for name, precision, file_name in _FILES:
        contract = replace(oracle.contract, name=name, version="1", precision=precision)
        path = tmp_path / "store" / name / "1" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dimmer(contract, gain=_GAINS[precision]))
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("setting", "precisions"),
    [("fp32", {"both": "fp32", "single": "fp32"}), ("int8-where-present", {"both": "int8", "single": "fp32"})],
)
def test_the_service_answers_with_the_chosen_file_and_tells_which_it_is(
    setting: str, precisions: dict[str, Precision], store: Path, tmp_path: Path
) -> None:
    picture = np.full((20, 30, 3), 200, np.uint8)
    settings = {"models_dir": store, "default_model": "both", "precision": setting, "lane_count": 1}
    with harness.running(tmp_path, **settings) as service, Client(service.grpc_target) as client:
        listed = {model.name: model for model in client.models()}
        answers = {name: client.clean(picture, model=name).image for name in precisions}
    assert {name: model.precision for name, model in listed.items()} == precisions
    for name, precision in precisions.items():
        np.testing.assert_array_equal(answers[name], np.uint8(200 * _GAINS[precision]))


def test_the_service_loads_the_models_that_the_setting_matches_and_no_others(store: Path, tmp_path: Path) -> None:
    """In int8, which ``single`` is not there in: what is not matched can't stop the start either."""
    settings = {"models_dir": store, "default_model": "both", "model_names": "bo*", "precision": "int8"}
    with harness.running(tmp_path, **settings) as service, Client(service.grpc_target) as client:
        assert [(model.name, model.precision) for model in client.models()] == [("both", "int8")]


def test_a_default_that_the_setting_leaves_out_ends_the_start_with_1_and_names_both(
    store: Path, tmp_path: Path
) -> None:
    with harness.launched(tmp_path, models_dir=store, default_model="both", model_names="single") as process:
        assert process.wait(harness.LIMIT_S) == 1
    assert "the default model 'both' is not loaded; loaded: single" in log_of(tmp_path)


def test_int8_without_its_file_ends_the_start_with_1_and_names_the_model(store: Path, tmp_path: Path) -> None:
    settings = {"models_dir": store, "default_model": "both", "precision": "int8"}
    with harness.launched(tmp_path, **settings) as process:
        assert process.wait(harness.LIMIT_S) == 1
    assert "DENOISED_PRECISION is int8, and single/1 has no model.int8.onnx" in log_of(tmp_path)
