"""A calibration survives the model file, answers with shares between 0 and 1, and is refused when it is damaged."""

import base64
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoised._strict import read_dataclass
from denoised.calibration import Calibration, encode_code_density
from denoised.statistics import CodeDensity

SIMPLE = Calibration(
    probabilities=(0.0, 0.5, 1.0),
    sigmas=(10.0, 30.0),
    quantiles={"removed_fraction": ((0.0, 1.0, 2.0), (10.0, 20.0, 30.0)), "clipped_share": ((0.0, 0.0, 0.4),) * 2},
)


def test_an_empty_calibration_is_one_that_was_not_measured() -> None:
    assert Calibration().is_empty
    assert not SIMPLE.is_empty
    with pytest.raises(ValueError, match="not calibrated"):
        Calibration().quantile_of("removed_fraction", 1.0, 10.0)


@pytest.mark.parametrize("calibration", [Calibration(), SIMPLE])
def test_it_reads_back_from_json_as_it_was(calibration: Calibration) -> None:
    tree = json.loads(json.dumps(asdict(calibration)))
    assert read_dataclass(Calibration, tree, where="it") == calibration


def test_an_empty_object_reads_as_not_calibrated() -> None:
    assert read_dataclass(Calibration, {}, where="it") == Calibration()


@pytest.mark.parametrize(
    ("value", "sigma", "share"),
    [
        (1.0, 10.0, 0.5),
        (0.5, 10.0, 0.25),
        (-1.0, 10.0, 0.0),
        (3.0, 10.0, 1.0),
        # Halfway between the levels the quantiles are 5, 10.5 and 16.
        (10.5, 20.0, 0.5),
        (7.75, 20.0, 0.25),
        # Beyond the outermost levels theirs hold.
        (1.0, 0.0, 0.5),
        (25.0, 99.0, 0.75),
    ],
)
def test_quantiles_are_interpolated_in_value_and_noise(value: float, sigma: float, share: float) -> None:
    assert SIMPLE.quantile_of("removed_fraction", value, sigma) == pytest.approx(share)


@pytest.mark.parametrize(("position", "share"), [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5)])
def test_a_value_that_many_images_have_stands_where_it_is_told(position: float, share: float) -> None:
    assert SIMPLE.quantile_of("clipped_share", 0.0, 10.0, tie_position=position) == share


@pytest.mark.parametrize(("value", "share"), [(float("nan"), 1.0), (float("inf"), 1.0), (-float("inf"), 0.0)])
def test_a_value_that_is_no_finite_number_is_as_unusual_as_any(value: float, share: float) -> None:
    assert SIMPLE.quantile_of("removed_fraction", value, 10.0) == share


def test_a_whole_number_beyond_what_floats_hold_is_refused_by_name() -> None:
    tree = json.loads('{"reconstruction_sigma": 1' + "0" * 400 + "}")
    with pytest.raises(ValueError, match=r"reconstruction_sigma is a whole number of 1329 bits; at most 1\.8e\+308"):
        read_dataclass(Calibration, tree, where="it")


def test_a_statistic_that_was_not_measured_is_named_with_those_that_were() -> None:
    with pytest.raises(ValueError, match=r"'tail_score'.*clipped_share, removed_fraction"):
        SIMPLE.quantile_of("tail_score", 0.0, 10.0)


@given(value=st.floats(-100, 100), other=st.floats(-100, 100), sigma=st.floats(0, 100))
def test_a_larger_value_never_has_a_smaller_share(value: float, other: float, sigma: float) -> None:
    low, high = (SIMPLE.quantile_of("removed_fraction", v, sigma) for v in sorted((value, other)))
    assert 0.0 <= low <= high <= 1.0


@given(probability=st.floats(0, 1), sigma=st.floats(0, 100))
def test_a_threshold_has_the_share_that_it_stands_for(probability: float, sigma: float) -> None:
    threshold = SIMPLE.value_at("removed_fraction", probability, sigma)
    assert SIMPLE.quantile_of("removed_fraction", threshold, sigma) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": ()}, "all be given"),
        ({"quantiles": {}}, "all be given"),
        ({"probabilities": (0.0, 0.5, 1.5)}, "probabilities is"),
        ({"probabilities": (0.0, 0.0, 1.0)}, "probabilities is"),
        ({"sigmas": (30.0, 10.0)}, "sigmas is"),
        ({"sigmas": (-1.0, 10.0)}, "sigmas is"),
        ({"sigmas": (float("nan"), 10.0)}, "sigmas is"),
        ({"sigmas": (10.0,)}, "removed_fraction must be 1 rows"),
        ({"quantiles": {"x": ((0.0, 1.0, 2.0), (0.0, 1.0))}}, "x must be 2 rows of 3"),
        ({"quantiles": {"x": ((0.0, 1.0, 2.0), (0.0, 2.0, 1.0))}}, "x must be 2 rows of 3"),
        ({"quantiles": {"x": ((0.0, 1.0, 2.0), (0.0, 1.0, float("inf")))}}, "x must be 2 rows of 3"),
        ({"likelihood": "poisson"}, "likelihood is 'poisson'; known: gaussian, bernoulli"),
        ({"reconstruction_sigma": 0.0}, "reconstruction_sigma is 0.0"),
        ({"reconstruction_sigma": float("nan")}, "reconstruction_sigma is nan"),
        ({"code_mean_base64": "***", "code_whitening_base64": "AAAA"}, "no base64"),
        ({"code_mean_base64": "AACAPw=="}, "neither the diagonal nor the triangle"),
        ({"code_mean_base64": "AAA=", "code_whitening_base64": "AACAPw=="}, "damaged"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SIMPLE, **changes)


@pytest.mark.parametrize("diagonal", [(1.0, -1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_a_distribution_of_codes_without_a_density_is_refused(diagonal: tuple[float, ...]) -> None:
    texts = [base64.b64encode(np.array(values, "<f4").tobytes()).decode() for values in ((0.0, 0.0), diagonal)]
    with pytest.raises(ValueError, match="finite"):
        Calibration(code_mean_base64=texts[0], code_whitening_base64=texts[1])


@pytest.mark.parametrize(
    "whitening",
    [np.array([0.5, 2.0, 3.0]), np.array([[1.0, 0, 0], [0.5, 2.0, 0], [-1.0, 0.25, 4.0]]), np.array([[2.0]])],
)
def test_the_distribution_of_codes_survives(whitening: NDArray[np.float64]) -> None:
    density = CodeDensity(np.arange(len(whitening), dtype=np.float32), whitening.astype(np.float32))
    mean_base64, whitening_base64 = encode_code_density(density)
    calibration = Calibration(code_mean_base64=mean_base64, code_whitening_base64=whitening_base64)
    found = calibration.energy_model().code_density
    assert found is not None
    code = np.linspace(-1, 1, len(whitening))
    assert found.nats(code) == pytest.approx(density.nats(code))


def test_without_codes_there_is_no_density() -> None:
    assert encode_code_density(None) == ("", "")
    model = SIMPLE.energy_model()
    assert (model.code_density, model.likelihood, model.sigma) == (None, "gaussian", 0.1)
