"""The figures of the energy report: right and false alarms are counted as they are defined."""

import numpy as np
import pytest

from denoised.verdicts import Verdict
from tests.bench.energy.table import Found, alarms, distance_from_flat, rows, unusual_shares
from tests.bench.energy.traffic import KINDS, image_of

PHOTOGRAPH = np.random.default_rng(0).integers(40, 200, (48, 64, 3), dtype=np.uint8)


def found(kind: str, sigma: float, *verdicts: Verdict, clips: bool = False, quantile: float = 0.5) -> Found:
    names = tuple(verdict.value for verdict in verdicts) or ("OK",)
    return Found(kind, "a.png", clips, sigma, names, {"tail_score": quantile})


def test_a_noise_level_is_close_within_a_tenth() -> None:
    (row,) = rows([found("noise 10", sigma) for sigma in (9.1, 10.9, 8.9, 11.2)])
    assert row.close_share == 0.5
    (clean,) = rows([found("clean", 0.5, Verdict.ALREADY_CLEAN)])
    assert clean.close_share is None
    assert clean.shares["ALREADY_CLEAN"] == 1.0


def test_alarms_are_right_or_false_by_what_was_done_to_the_image() -> None:
    images = [
        found("noise 25, jpeg", 9.0, Verdict.NOISE_CORRELATED),
        found("noise 25, jpeg", 9.0),
        found("noise 25", 25.0, Verdict.NOISE_CORRELATED),
        found("noise 25", 25.0),
        found("noise 25", 25.0),
        # Nobody's error.
        found("jpeg", 0.5, Verdict.NOISE_CORRELATED),
    ]
    correlated = next(each for each in alarms(images) if each.verdict == "NOISE_CORRELATED")
    assert (correlated.right_share, correlated.false_count) == (0.5, 3)
    assert correlated.false_share == pytest.approx(1 / 3)


def test_a_photograph_that_clips_by_itself_deserves_the_verdict_as_well() -> None:
    images = [found("noise 25", 25.0, Verdict.CLIPPED_INPUT, clips=True), found("noise 25", 25.0)]
    clipped = next(each for each in alarms(images) if each.verdict == "CLIPPED_INPUT")
    assert (clipped.false_share, clipped.false_count) == (0.0, 1)


def test_unusual_is_what_lies_at_either_end() -> None:
    images = [found("clean", 0.5, quantile=quantile) for quantile in (0.0, 0.01, 0.5, 0.99, 1.0)]
    assert unusual_shares(images, "clean") == {"tail_score": pytest.approx(0.6)}


def test_the_distance_from_flat_is_kolmogorov_and_smirnovs() -> None:
    assert distance_from_flat([0.125, 0.375, 0.625, 0.875]) == pytest.approx(0.125)
    assert distance_from_flat([1.0, 1.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_function_of_photograph_and_number(kind: str) -> None:
    first = image_of(kind, PHOTOGRAPH, 1)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert np.array_equal(first, image_of(kind, PHOTOGRAPH, 1))
    assert kind == "clean" or not np.array_equal(first, image_of(kind, PHOTOGRAPH, 2))


def test_noise_has_the_level_that_its_kind_says() -> None:
    difference = image_of("noise 15", PHOTOGRAPH, 3).astype(float) - PHOTOGRAPH
    assert difference.std() == pytest.approx(15.0, rel=0.03)
