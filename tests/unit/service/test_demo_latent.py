"""The demo of latent codes without a service: which digits it has, and what its page says of what it is given."""

import numpy as np
import pytest

from service.demo.latent.digits import SIDE_PX, held_out_digits, outliers
from service.demo.latent.page import page_of
from service.demo.latent.scenes import Map, Reconstruction, Samples, Scenes, Through, Way

BLANK = np.zeros((SIDE_PX, SIDE_PX), np.uint8)


def test_its_digits_are_those_that_training_sets_apart() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
    bundled = datasets.load_digits()
    digits = held_out_digits()
    assert len(digits.labels) == len(digits.pictures) == len(bundled.images) // 10 == 179
    np.testing.assert_array_equal(digits.labels, bundled.target[-179:])
    np.testing.assert_array_equal(digits.pictures, np.rint(bundled.images[-179:] * (255 / 16)))


def test_there_is_one_of_each_to_begin_with() -> None:
    digits = held_out_digits()
    assert [int(digits.labels[index]) for index in digits.first_of_each()] == list(range(10))


def test_its_outliers_are_pictures_like_the_digits_in_all_but_what_they_show() -> None:
    digits = held_out_digits()
    for picture in outliers(digits).values():
        assert (picture.shape, picture.dtype) == ((SIDE_PX, SIDE_PX), digits.pictures.dtype)
        assert not (digits.pictures == picture).all(axis=(1, 2)).any()


def scenes(*, quantile: float, is_repeated: bool) -> Scenes:
    made = Reconstruction(BLANK, reconstruction_nats=12.34, compression_nats=None, quantile=quantile)
    return Scenes(
        samples=[Samples(7, 0.5, [BLANK] * 3, is_repeated)],
        ways=[Way("a <model>", [BLANK] * 4, is_spherical=True, largest_step=3.0, direct_change=20.0)],
        through=[Through("a face", BLANK, is_outlier=True, by_model={"a <model>": made})],
        flagged_shares={"a <model>": 0.011},
        map=Map(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([4, 9]), explained_share=0.5),
    )


@pytest.mark.parametrize(("quantile", "is_flagged"), [(0.989, False), (0.99, True), (1.0, True)])
def test_a_picture_is_flagged_from_its_quantile_on(quantile: float, is_flagged: bool) -> None:  # noqa: FBT001 -- parametrised
    page = page_of(scenes(quantile=quantile, is_repeated=True), lead="By tests.")
    assert ("class='flagged'" in page) == is_flagged
    assert "undefined" in page


@pytest.mark.parametrize("is_repeated", [True, False])
def test_the_page_says_whether_the_same_bytes_came_again(is_repeated: bool) -> None:  # noqa: FBT001 -- parametrised
    page = page_of(scenes(quantile=0.5, is_repeated=is_repeated), lead="By tests.")
    assert ("NOT the same bytes" in page) != is_repeated


def test_the_page_is_one_file_and_names_are_only_names_in_it() -> None:
    page = page_of(scenes(quantile=0.5, is_repeated=True), lead="<b>")
    assert "a <model>" not in page
    assert "a &lt;model&gt;" in page
    assert page.count("<img ") == 3 + 4 + 2
    assert page.count("<text ") == 2
    assert "http" not in page
