"""What an image asks of a model, and what does not fit it."""

from dataclasses import replace

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from service.errors import CapabilityMissing, ServiceError, UnsupportedImage
from service.geometry import geometry_of
from service.job import Options
from service.metrics import Metrics
from service.registry import Model
from service.types import Container, ImageHeader
from tests.unit.service.denoiser_bench import Bench


@pytest.fixture
def model(contract: ModelContract, metrics: Metrics) -> Model:
    return Bench(contract, metrics).model


@pytest.fixture
def grey(contract: ModelContract) -> ModelContract:
    return replace(contract, channels=1, golden=GoldenPair.of(*[np.zeros((4, 8, 1), np.uint8)] * 2))


def header_of(*, side_px: int = 16, channels: int = 3, bits: int = 8) -> ImageHeader:
    return ImageHeader(Container.RAW, side_px, side_px, channels, bits)


def test_a_model_that_does_not_denoise_takes_no_image(model: Model, contract: ModelContract) -> None:
    other = replace(model, contract=replace(contract, kind="vae", capabilities=("encode",), code_length=3))
    with pytest.raises(CapabilityMissing, match="can't denoise, it can encode; choose another one"):
        geometry_of(header_of(), other, Options())


def test_a_model_of_one_size_takes_that_size_alone(model: Model, contract: ModelContract) -> None:
    sized = replace(
        contract,
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        golden=GoldenPair.of(*[np.zeros((16, 16, 3), np.uint8)] * 2),
    )
    other = replace(model, contract=sized)
    assert geometry_of(header_of(side_px=16), other, Options()).plan.tile_count == 1
    for side_px in (15, 17):
        with pytest.raises(UnsupportedImage, match=f"{side_px} x {side_px} px and the model .* 16 x 16 px only"):
            geometry_of(header_of(side_px=side_px), other, Options())


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grey_model_takes_no_colour(model: Model, grey: ModelContract, channels: int) -> None:
    other = replace(model, contract=grey)
    if channels <= 2:
        assert geometry_of(header_of(channels=channels), other, Options()).group.channels == 1
        return
    with pytest.raises(UnsupportedImage, match="has colour") as raised:
        geometry_of(header_of(channels=channels), other, Options())
    assert raised.value.field == "options.model"


@pytest.mark.parametrize("header", [header_of(bits=16), header_of(bits=32), header_of(channels=4)])
def test_what_does_not_fit_the_container_is_refused_before_anything_runs(model: Model, header: ImageHeader) -> None:
    with pytest.raises(ServiceError) as raised:
        geometry_of(header, model, Options(output_container=Container.JPEG))
    assert getattr(raised.value, "field", "") == "options.output_container"
