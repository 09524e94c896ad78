"""Verdicts: each for what deserves it, none for what is like the calibration, and what the model knows of itself."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.calibration import Calibration
from denoised.contract import GoldenPair, ModelContract, Parity, SampleLevels, TilingError
from denoised.noise import NoiseSpec
from denoised.statistics import Energy, Statistics
from denoised.verdicts import CLEAN_SIGMA, Judgement, Verdict, judge, ranks

PROBABILITIES: Final = (0.0, 0.01, 0.5, 0.99, 1.0)
ROWS: Final = {
    "wavelet_ratio": (0.8, 0.9, 1.0, 1.1, 1.2),
    "removed_fraction": (0.5, 0.6, 0.8, 0.95, 1.0),
    "neighbour_correlation": (-0.2, -0.1, -0.05, 0.0, 0.01),
    "channel_correlation": (-0.3, -0.2, -0.05, 0.01, 0.02),
    "clipped_share": (0.0, 0.0, 0.001, 0.1, 0.3),
    "colour_bias": (0.0, 0.01, 0.2, 2.0, 4.0),
    "reconstruction_bits_per_pixel": (-4.5, -4.2, -4.0, -3.9, -3.8),
}
CALIBRATION: Final = Calibration(
    probabilities=PROBABILITIES,
    sigmas=(1.0, 50.0),
    quantiles={name: (row, row) for name, row in ROWS.items()},
)
ORDINARY: Final = Statistics(
    sigma=20.0,
    network_sigma=20.0,
    wavelet_sigma=20.0,
    immerkaer_sigma=20.0,
    removed_fraction=0.8,
    correlation_horizontal=-0.05,
    correlation_vertical=-0.05,
    neighbour_correlation=-0.05,
    channel_correlation=-0.05,
    clipped_share=0.001,
    tail_score=1.2,
    colour_bias=(0.1, -0.2, 0.0),
    complexity_bits_per_pixel=5.0,
    energy=Energy(reconstruction_nats=-4.0 * np.log(2.0) * 1000, compression_nats=None, pixel_count=1000),
    sample_count=131_072,
)


_FLAT: Final = np.zeros((4, 4, 3), np.uint8)
CONTRACT: Final = ModelContract(
    name="gaussian",
    version="1",
    kind="conv_dae",
    capabilities=("denoise",),
    precision="fp32",
    summary="For tests.",
    channels=3,
    noise=NoiseSpec.gaussian(0.0, 55.0),
    levels=SampleLevels(),
    size_multiple_px=4,
    fixed_side_px=0,
    unit_edges_px=(16, 32),
    halo_px=4,
    receptive_field_px=9,
    sigma_map_scale_px=4,
    code_length=0,
    gmac_per_megapixel=1.0,
    parity=Parity(0.0, 200.0),
    tiling=TilingError(0, 0.0),
    quality_db={},
    calibration=CALIBRATION,
    training_data_digest="1",
    run_config_digest="2",
    license="Apache-2.0",
    golden=GoldenPair.of(_FLAT, _FLAT),
)


@pytest.fixture
def contract() -> ModelContract:
    return CONTRACT


def judged(contract: ModelContract, **changes: Any) -> Judgement:
    return judge(replace(ORDINARY, **changes), contract)


def energy_of(bits_per_pixel: float) -> Energy:
    return Energy(
        reconstruction_nats=bits_per_pixel * float(np.log(2.0)) * 1000, compression_nats=None, pixel_count=1000
    )


def test_an_ordinary_image_is_ok_and_every_calibrated_statistic_has_its_quantile(contract: ModelContract) -> None:
    judgement = judged(contract)
    assert judgement.verdicts == (Verdict.OK,)
    assert {name for name, finding in judgement.findings.items() if finding.quantile is not None} == set(ROWS)
    assert judgement.findings["removed_fraction"].quantile == pytest.approx(0.5)
    assert judgement.findings["tail_score"].quantile is None
    assert all(finding.verdict is Verdict.OK for finding in judgement.findings.values())


@pytest.mark.parametrize(
    ("changes", "verdict", "name"),
    [
        ({"sigma": 58.0}, Verdict.OUT_OF_RANGE_SIGMA, "sigma"),
        ({"neighbour_correlation": 0.02}, Verdict.NOISE_CORRELATED, "neighbour_correlation"),
        ({"channel_correlation": 0.3}, Verdict.NOISE_CORRELATED, "channel_correlation"),
        ({"clipped_share": 0.2}, Verdict.CLIPPED_INPUT, "clipped_share"),
        ({"energy": energy_of(-3.0)}, Verdict.HIGH_RECONSTRUCTION_ENERGY, "reconstruction_bits_per_pixel"),
        ({"colour_bias": (0.0, -3.0, 0.0)}, Verdict.TINTED, "colour_bias"),
        ({"sigma": 0.4}, Verdict.ALREADY_CLEAN, "sigma"),
    ],
)
def test_each_verdict_is_raised_by_its_own_statistic_alone(
    changes: dict[str, Any], verdict: Verdict, name: str, contract: ModelContract
) -> None:
    judgement = judged(contract, **changes)
    assert judgement.verdicts == (verdict,)
    assert [each for each, finding in judgement.findings.items() if finding.verdict is not Verdict.OK] == [name]


def test_the_threshold_is_where_the_verdict_starts(contract: ModelContract) -> None:
    for name, field in (("clipped_share", "clipped_share"), ("neighbour_correlation", "neighbour_correlation")):
        threshold = judged(contract).findings[name].threshold
        assert threshold is not None
        assert judged(contract, **{field: threshold}).verdicts == (Verdict.OK,)
        assert judged(contract, **{field: threshold + 1e-9}).verdicts != (Verdict.OK,)


def test_a_narrow_calibration_makes_no_verdict_of_what_harms_nobody(contract: ModelContract) -> None:
    rows = dict.fromkeys(("neighbour_correlation", "clipped_share", "colour_bias"), ((0.0,) * 5, (0.0,) * 5))
    narrow = replace(contract, calibration=Calibration(PROBABILITIES, (1.0, 50.0), rows))
    changes: dict[str, Any] = {"neighbour_correlation": 0.004, "clipped_share": 0.01, "colour_bias": (0.4,)}
    assert judged(narrow, **changes).verdicts == (Verdict.OK,)


def test_several_verdicts_come_in_one_order_each_once(contract: ModelContract) -> None:
    changes: dict[str, Any] = {
        "colour_bias": (5.0,),
        "channel_correlation": 0.9,
        "neighbour_correlation": 0.9,
        "sigma": 90.0,
    }
    assert judged(contract, **changes).verdicts == (
        Verdict.OUT_OF_RANGE_SIGMA,
        Verdict.NOISE_CORRELATED,
        Verdict.TINTED,
    )


def test_correlated_noise_that_is_hardly_found_is_no_clean_image(contract: ModelContract) -> None:
    judgement = judged(contract, sigma=CLEAN_SIGMA / 2, neighbour_correlation=0.3)
    assert judgement.verdicts == (Verdict.NOISE_CORRELATED,)


def test_less_noise_than_the_model_was_trained_for_is_out_of_its_range_too(contract: ModelContract) -> None:
    strong = replace(contract, noise=NoiseSpec.gaussian(15.0, 55.0))
    assert judged(strong, sigma=10.0).verdicts == (Verdict.OUT_OF_RANGE_SIGMA,)
    assert judged(strong, sigma=14.9).verdicts == (Verdict.OK,)
    assert judged(strong, sigma=0.1).verdicts == (Verdict.ALREADY_CLEAN,)


def test_chance_in_a_small_image_is_no_correlation(contract: ModelContract) -> None:
    small = judged(contract, neighbour_correlation=0.03, sample_count=28 * 28)
    assert small.verdicts == (Verdict.OK,)
    assert judged(contract, neighbour_correlation=0.03).verdicts == (Verdict.NOISE_CORRELATED,)


def test_a_model_without_calibration_is_judged_by_its_range_alone(contract: ModelContract) -> None:
    bare = replace(contract, calibration=Calibration())
    judgement = judged(bare, neighbour_correlation=0.9, clipped_share=0.9, sigma=80.0)
    assert judgement.verdicts == (Verdict.OUT_OF_RANGE_SIGMA,)
    assert all(finding.quantile is None for finding in judgement.findings.values())
    unknown = replace(bare, noise=NoiseSpec())
    assert judged(unknown, sigma=80.0).verdicts == (Verdict.OK,)


def test_what_is_undefined_is_not_judged(contract: ModelContract) -> None:
    judgement = judged(contract, channel_correlation=None)
    assert "channel_correlation" not in judgement.findings
    assert "compression_nats" not in judgement.findings
    assert judgement.verdicts == (Verdict.OK,)


def test_ranks_are_of_what_was_calibrated_and_ties_are_drawn() -> None:
    tied = replace(ORDINARY, clipped_share=0.0)
    assert set(ranks(tied, CALIBRATION, lambda: 0.5)) == set(ROWS)
    assert ranks(tied, CALIBRATION, lambda: 0.0)["clipped_share"] == 0.0
    assert ranks(tied, CALIBRATION, lambda: 1.0)["clipped_share"] == 0.01
    assert ranks(ORDINARY, Calibration(), lambda: 0.5) == {}


numbers = st.floats(-1e6, 1e6)
shares = st.floats(0.0, 1.0)


@given(
    sigma=st.floats(0.0, 255.0),
    correlation=st.floats(-1.0, 1.0),
    share=shares,
    bias=numbers,
    bits=numbers,
    removed=st.floats(0.0, 1e6),
    count=st.integers(1, 131_072),
)
def test_whatever_the_numbers_quantiles_lie_in_0_to_1_and_there_is_a_verdict(
    sigma: float, correlation: float, share: float, bias: float, bits: float, removed: float, count: int
) -> None:
    judgement = judged(
        CONTRACT,
        sigma=sigma,
        neighbour_correlation=correlation,
        channel_correlation=correlation,
        clipped_share=share,
        colour_bias=(bias,),
        energy=energy_of(bits),
        removed_fraction=removed,
        sample_count=count,
    )
    assert judgement.verdicts
    assert (Verdict.OK in judgement.verdicts) == (judgement.verdicts == (Verdict.OK,))
    for finding in judgement.findings.values():
        assert finding.quantile is None or 0.0 <= finding.quantile <= 1.0
        if finding.verdict is not Verdict.OK and finding.verdict is not Verdict.ALREADY_CLEAN:
            assert finding.threshold is not None


@given(low=st.floats(-1.0, 1.0), high=st.floats(-1.0, 1.0))
def test_a_larger_statistic_never_has_a_smaller_quantile(low: float, high: float) -> None:
    low, high = sorted((low, high))
    first, second = (
        judged(CONTRACT, neighbour_correlation=value).findings["neighbour_correlation"].quantile
        for value in (low, high)
    )
    assert first is not None
    assert second is not None
    assert first <= second
