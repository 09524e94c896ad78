"""The way between two codes: it begins and ends where it should, and keeps to the shell that codes lie on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from service.latent.way import point
from service.types import Codes

NUMBERS = st.floats(-100.0, 100.0, width=32)


def codes(length: int) -> st.SearchStrategy[Codes]:
    return np_st.arrays(np.float32, length, elements=NUMBERS)


PAIRS = st.integers(1, 12).flatmap(lambda length: st.tuples(codes(length), codes(length)))


@given(ends=PAIRS, spherical=st.booleans())
def test_it_begins_and_ends_at_its_ends_bit_for_bit(ends: tuple[Codes, Codes], *, spherical: bool) -> None:
    assert point(*ends, 0.0, spherical=spherical).tobytes() == ends[0].tobytes()
    assert point(*ends, 1.0, spherical=spherical).tobytes() == ends[1].tobytes()


@given(ends=PAIRS, share=st.floats(0.0, 1.0), spherical=st.booleans())
def test_it_is_the_same_way_from_the_other_end(ends: tuple[Codes, Codes], share: float, *, spherical: bool) -> None:
    there, back = point(*ends, share, spherical=spherical), point(*ends[::-1], 1.0 - share, spherical=spherical)
    np.testing.assert_allclose(there, back, rtol=1e-3, atol=1e-2)


@given(ends=PAIRS, share=st.floats(0.0, 1.0))
def test_a_straight_way_is_the_weighted_mean(ends: tuple[Codes, Codes], share: float) -> None:
    mean = (1.0 - share) * ends[0].astype(np.float64) + share * ends[1]
    np.testing.assert_allclose(point(*ends, share, spherical=False), mean, rtol=1e-6, atol=1e-4)


@given(ends=PAIRS, share=st.floats(0.0, 1.0), spherical=st.booleans())
def test_every_code_on_it_is_finite_and_not_longer_than_both_ends(
    ends: tuple[Codes, Codes], share: float, *, spherical: bool
) -> None:
    code = point(*ends, share, spherical=spherical)
    assert (code.shape, code.dtype.name) == (ends[0].shape, "float32")
    longest = max(float(np.linalg.norm(end.astype(np.float64))) for end in ends)
    assert np.linalg.norm(code.astype(np.float64)) <= longest * (1 + 1e-6)


def test_an_arc_goes_evenly_in_angle_and_in_length() -> None:
    start, stop = np.array([2.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)
    third = point(start, stop, 1 / 3, spherical=True)
    assert np.degrees(np.arctan2(third[1], third[0])) == pytest.approx(30.0)
    assert np.hypot(*third) == pytest.approx(2.0 + 2.0 / 3)


def test_an_arc_stays_on_the_shell_that_a_straight_way_leaves() -> None:
    rng = np.random.default_rng(1)
    start, stop = rng.standard_normal((2, 256)).astype(np.float32)
    middles = [np.linalg.norm(point(start, stop, 0.5, spherical=spherical)) for spherical in (True, False)]
    assert middles[0] == pytest.approx(16.0, rel=0.1)
    assert middles[1] == pytest.approx(16.0 / 2**0.5, rel=0.1)


@pytest.mark.parametrize("other", [[-1.0, -1.0], [2.0, 2.0], [0.0, 0.0]])
def test_where_an_arc_is_not_determined_the_way_is_straight(other: list[float]) -> None:
    start, stop = np.ones(2, np.float32), np.array(other, np.float32)
    np.testing.assert_allclose(point(start, stop, 0.25, spherical=True), 0.75 * start + 0.25 * stop, atol=1e-6)
