"""Every shipped file is one network in torch, in ONNX Runtime and in the service's bytes.

The weights come from the file itself. Floats may differ by 1e-4, as the gate of the export allows (1e-6 is usual), and
bytes by one level on a thousandth of the values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")

from denoised import Client
from denoised.contract import INT8_MODEL_FILE, MODEL_FILE, ModelContract
from denoised.noise import benchmark_noisy
from service.settings import SHIPPED_MODELS_DIR, PrecisionChoice
from tests.integration import harness
from tests.integration.one_unit import Floats, as_one_unit, assert_same_levels, in_onnx_runtime, in_torch
from tests.integration.pictures import noisy, photograph
from training.networks import build_network
from training.run.published import open_published, read_published

pytestmark = [pytest.mark.training, pytest.mark.slow]

_FLOATS = sorted(SHIPPED_MODELS_DIR.glob(f"*/*/{MODEL_FILE}"))
_INTEGERS = sorted(SHIPPED_MODELS_DIR.glob(f"*/*/{INT8_MODEL_FILE}"))
_LARGEST_DIFFERENCE = 1e-4


def model_of(path: Path) -> str:
    """Its place in the store, which names the test."""
    return "/".join(path.parts[-3:])


@contextmanager
def serving(folder: Path, precision: PrecisionChoice) -> Iterator[Client]:
    """A client of a service with all shipped networks."""
    default = _FLOATS[0].parts[-3]
    settings = {"models_dir": SHIPPED_MODELS_DIR, "default_model": default, "precision": precision, "lane_count": 1}
    with harness.running(folder, **settings) as service, Client(service.grpc_target) as client:
        yield client


@pytest.fixture(scope="module")
def in_floats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("floats"), "fp32") as client:
        yield client


@pytest.fixture(scope="module")
def in_integers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(tmp_path_factory.mktemp("integers"), "int8-where-present") as client:
        yield client


def pictures(contract: ModelContract) -> Iterator[NDArray[np.uint8]]:
    """Less than a block, odd sides, and a photograph, each of which is one unit."""
    photo = benchmark_noisy(photograph("coffee")[:300, :400], sigma=25.0, index=0)
    for picture in (noisy(1, 1, 1), noisy(2, 51, 33), photo):
        yield picture[:, :, : contract.channels]


def in_levels(image: Floats) -> Floats:
    levels: Floats = np.rint(np.clip(image, 0, 1) * np.float32(255))
    return levels


@pytest.mark.parametrize("path", _FLOATS, ids=model_of)
def test_a_shipped_network_is_the_same_in_torch_in_onnx_runtime_and_in_the_service(
    path: Path, in_floats: Client
) -> None:
    published = read_published(path)
    network, contract = build_network(published.config), published.contract
    network.load_state_dict(published.weights)
    torch_run, onnx_run = in_torch(network.eval()), in_onnx_runtime(path.read_bytes())
    for picture in pictures(contract):
        unit = picture.astype(np.float32) / np.float32(255)
        ours, theirs = (as_one_unit(run, contract, unit) for run in (torch_run, onnx_run))
        assert float(np.abs(ours - theirs).max()) <= _LARGEST_DIFFERENCE
        answer = in_floats.clean(picture, model=contract.name, model_version=contract.version)
        assert answer.model.digest == published.digest
        assert_same_levels(answer.image, in_levels(ours))
    # The network does something: three copies of the input would agree too.
    assert not np.array_equal(answer.image, picture)


@pytest.mark.parametrize("path", _INTEGERS, ids=model_of)
def test_a_shipped_network_in_int8_is_the_same_in_onnx_runtime_and_in_the_service(
    path: Path, in_integers: Client
) -> None:
    published = open_published(path)
    contract, onnx_run = published.contract, in_onnx_runtime(published.model_bytes)
    for picture in pictures(contract):
        answer = in_integers.clean(picture, model=contract.name, model_version=contract.version)
        assert answer.model.digest == published.digest
        expected = as_one_unit(onnx_run, contract, picture.astype(np.float32) / np.float32(255))
        assert_same_levels(answer.image, in_levels(expected))
