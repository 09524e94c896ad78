"""A network that is exported and served answers as it does in torch: from the bytes of a file to the bytes of a file.

The only test that sees both training and the service; they themselves meet in the model file alone.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

pytest.importorskip("torch")

from denoised import Client
from denoised.contract import ModelContract
from denoised.noise import keyed_rng
from tests.integration import harness
from tests.integration.harness import RunningService
from tests.integration.one_unit import as_one_unit, assert_same_levels, in_torch
from tests.unit.training.export.small import run_of
from tests.unit.training.run.tiny import CONV_DAE
from training.data.pack import Pack
from training.data.prepare import prepare
from training.export.publish import export
from training.networks import Network
from training.run.trained import load_trained

pytestmark = [pytest.mark.training, pytest.mark.slow]

_BLACK, _WHITE = 64, 4095
_SIZES_PX = ((1, 1), (8, 8), (33, 51), (300, 200))


@dataclass(frozen=True, slots=True)
class Served:
    """A service, and the networks of its models."""

    service: RunningService
    networks: dict[str, tuple[Network, ModelContract]]

    def answer(self, model: str, samples: np.ndarray) -> np.ndarray:
        """What becomes of samples that are sent as a PNG file."""
        file = io.BytesIO()
        PillowImage.fromarray(samples).save(file, "PNG")
        with Client(self.service.grpc_target) as client:
            content = client.clean(file.getvalue(), model=model).image
        return np.asarray(PillowImage.open(io.BytesIO(content)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A network for 8-bit colour, and one for 12-bit grey samples in 16-bit files."""
    folder = tmp_path_factory.mktemp("bytes")
    store = folder / "store"
    grey, colour = folder / "grey", folder / "colour"
    for index in range(4):
        rng = keyed_rng(index)
        for target, samples in (
            (grey, rng.integers(_BLACK, _WHITE, (80, 80)).astype(np.uint16)),
            (colour, rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)),
        ):
            target.mkdir(exist_ok=True)
            PillowImage.fromarray(samples).save(target / f"{index}.png")
    prepare(grey, folder / "grey-pack", channels=1, black=_BLACK, white=_WHITE)
    prepare(colour, folder / "colour-pack", channels=3)
    packs = {"shallow": Pack(folder / "colour-pack"), "deep": Pack(folder / "grey-pack")}
    networks = {}
    for name, pack in packs.items():
        network: dict[str, Any] = CONV_DAE | {"channels": pack.manifest.channels}
        run = run_of(folder / f"{name}-run", pack, network=network, spread=0.0001, name=name)
        exported = export(run, pack, store, version=None, calibration_crop_count=16)
        networks[name] = (load_trained(run).network, exported.contract)
    with harness.running(folder, models_dir=store, default_model="shallow", lane_count=1) as service:
        yield Served(service, networks)


@pytest.mark.parametrize(("height_px", "width_px"), _SIZES_PX)
def test_the_answer_in_8_bit_is_that_of_torch(height_px: int, width_px: int, served: Served) -> None:
    samples = keyed_rng(height_px, width_px).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    answer = served.answer("shallow", samples)
    network, contract = served.networks["shallow"]
    expected = as_one_unit(in_torch(network), contract, samples.astype(np.float32) / np.float32(255))
    assert answer.dtype == np.uint8
    assert_same_levels(answer, np.rint(np.clip(expected, 0, 1) * np.float32(255)))


@pytest.mark.parametrize(("height_px", "width_px"), _SIZES_PX)
def test_the_answer_in_16_bit_is_that_of_torch_between_the_models_levels(
    height_px: int, width_px: int, served: Served
) -> None:
    span = np.float32(_WHITE - _BLACK)
    samples = keyed_rng(height_px, width_px).integers(0, 5000, (height_px, width_px)).astype(np.uint16)
    answer = served.answer("deep", samples)
    unit = np.clip((samples.astype(np.float32) - np.float32(_BLACK)) / span, 0, 1)[:, :, np.newaxis]
    network, contract = served.networks["deep"]
    image = as_one_unit(in_torch(network), contract, unit)
    expected = np.rint(np.clip(image, 0, 1) * span + np.float32(_BLACK))[:, :, 0]
    assert answer.dtype == np.uint16
    assert_same_levels(answer, expected)
    # The network does something: an answer that is the input would prove nothing.
    assert not np.array_equal(answer, np.clip(samples, _BLACK, _WHITE)) or samples.size < 100
