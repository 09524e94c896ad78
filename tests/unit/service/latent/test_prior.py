"""Which codes are decoded: those of the right length, of finite numbers, within reach of the model's prior."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.calibration import Calibration, encode_code_density
from denoised.contract import GoldenPair, ModelContract
from denoised.statistics import CodeDensity
from service.errors import InvalidLatent, LatentOutOfDistribution
from service.latent.prior import Prior
from service.types import Codes

LENGTH = 4


@pytest.fixture
def variational(contract: ModelContract) -> ModelContract:
    return replace(
        contract,
        kind="vae",
        capabilities=("denoise", "encode", "decode", "generate"),
        code_length=LENGTH,
        size_multiple_px=16,
        fixed_side_px=16,
        unit_edges_px=(16,),
        halo_px=0,
        sigma_map_scale_px=0,
        golden=GoldenPair.of(*[np.zeros((16, 16, 3), np.uint8)] * 2),
    )


@pytest.fixture
def plain(variational: ModelContract) -> ModelContract:
    """A deterministic encoder of whose codes nothing is known."""
    return replace(variational, kind="conv_ae", capabilities=("denoise", "encode", "decode"))


@pytest.fixture
def measured(plain: ModelContract) -> ModelContract:
    """Its codes were measured: around 10, with a standard deviation of 2."""
    density = CodeDensity(np.full(LENGTH, 10.0, np.float32), np.full(LENGTH, 0.5, np.float32))
    mean, whitening = encode_code_density(density)
    return replace(plain, calibration=Calibration(code_mean_base64=mean, code_whitening_base64=whitening))


def code(*numbers: float) -> Codes:
    return np.array(numbers, np.float32)


def test_codes_of_a_variational_model_are_measured_against_the_standard_normal(variational: ModelContract) -> None:
    prior = Prior(variational)
    assert prior.is_normal
    assert prior.distance(code(3, 0, 4, 0)) == pytest.approx(5.0)
    assert prior.distance_limit == pytest.approx(8.0)


def test_codes_of_a_deterministic_encoder_are_measured_against_those_that_were_seen(measured: ModelContract) -> None:
    prior = Prior(measured)
    assert not prior.is_normal
    assert prior.distance(code(10, 10, 10, 16)) == pytest.approx(3.0)


def test_a_code_beyond_the_limit_is_refused_with_its_distance_and_the_remedy(measured: ModelContract) -> None:
    with pytest.raises(
        LatentOutOfDistribution, match=r"is 20 standard deviations .* within 8; .* allow_out_of"
    ) as caught:
        Prior(measured).check(code(10, 10, 10, 50), field="latent", allow_out_of_distribution=False)
    assert caught.value.field == "latent"
    assert caught.value.metadata == {"value": "20", "limit": "8"}


def test_a_code_beyond_the_limit_passes_where_that_is_asked_for(measured: ModelContract) -> None:
    Prior(measured).check(code(10, 10, 10, 1e30), field="latent", allow_out_of_distribution=True)


def test_where_nothing_is_known_of_codes_none_is_too_far(plain: ModelContract) -> None:
    prior = Prior(plain)
    assert (prior.distance_limit, prior.distance(code(1, 2, 3, 4))) == (None, None)
    prior.check(code(1e9, 0, 0, 0), field="latent", allow_out_of_distribution=False)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("allowed", [True, False])
def test_numbers_that_are_none_are_refused_and_pointed_at(
    variational: ModelContract, number: float, *, allowed: bool
) -> None:
    with pytest.raises(InvalidLatent, match=r"1 of 4 numbers .* number 2; send finite ones"):
        Prior(variational).check(code(0, 0, number, 0), field="latent", allow_out_of_distribution=allowed)


@pytest.mark.parametrize("count", [0, 1, LENGTH - 1, LENGTH + 1, 10**9])
def test_another_length_is_refused_with_both(variational: ModelContract, count: int) -> None:
    with pytest.raises(InvalidLatent, match=f"has {count} numbers and the model's have 4") as caught:
        Prior(variational).check_length(count, field="latent.values")
    assert caught.value.field == "latent.values"


@given(seed=st.integers(0, 2**32), length=st.integers(1, 512))
def test_no_draw_from_the_prior_is_ever_out_of_reach(seed: int, length: int) -> None:
    assert np.linalg.norm(np.random.default_rng(seed).standard_normal(length)) < length**0.5 + 6
