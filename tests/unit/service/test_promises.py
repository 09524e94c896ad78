"""The margin of promises by numbers: a high quantile of what came true, bounded, and able to come down again."""

import pytest

from service.promises import Promises


def after(*ratios: float) -> Promises:
    promises = Promises()
    for ratio in ratios:
        promises.note(0.5, 0.5 * ratio, is_late=False)
    return promises


def test_nothing_is_added_until_enough_is_known() -> None:
    assert Promises().margin == 1.0
    assert after(*[2.0] * 7).margin == 1.0
    assert after(*[2.0] * 8).margin == pytest.approx(2.0)


def test_one_slow_image_in_five_hundred_is_left_out_and_two_are_not() -> None:
    assert after(*[1.1] * 511, 3.0).margin == pytest.approx(1.1)
    assert after(*[1.1] * 510, 3.0, 2.0).margin == pytest.approx(2.0)


@pytest.mark.parametrize(("ratio", "margin"), [(0.2, 1.0), (100.0, 4.0)])
def test_the_margin_has_bounds(ratio: float, margin: float) -> None:
    assert after(*[ratio] * 40).margin == margin


def test_what_was_given_up_would_have_taken_longer() -> None:
    """Else the margin could never exceed the one that they were admitted with."""
    promises = Promises()
    for _ in range(20):
        promises.note(0.5, 0.6, is_late=True)
    assert promises.margin > 1.2


def test_a_bad_time_is_forgotten() -> None:
    assert after(*[100.0] * 40, *[1.2] * 512).margin == pytest.approx(1.2)


def test_at_the_largest_margin_those_still_admitted_are_noted() -> None:
    """Else it could never come down."""
    most = after(*[100.0] * 40).margin
    assert Promises.is_telling(1.0 / most, 1.0)
    assert not Promises.is_telling(0.01, 1.0)
