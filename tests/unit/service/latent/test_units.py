"""Pictures and codes as lanes read and write them: scaled, checked for numbers that are none, each in its place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidSamples, NonFiniteOutput
from service.latent.units import CodesToPictures, Picture, PictureForm, PicturesToCodes
from service.pixels import Scale
from tests.unit.service.latent.coder_bench import FORM, LENGTH, SIDE_PX, code_of, picture

SHAPE = (1, SIDE_PX, SIDE_PX)


def test_pictures_are_read_in_the_networks_units() -> None:
    units = PicturesToCodes([picture(1), picture(2)], code_length=LENGTH)
    out = np.empty((2, *SHAPE), np.float32)
    units.read(0, 2, out)
    for index in range(2):
        np.testing.assert_array_equal(out[index, 0], picture(index + 1).colour[:, :, 0] / np.float32(255))


@pytest.mark.parametrize("prefix", ["", "stop."])
def test_a_picture_that_is_not_finite_is_pointed_at(prefix: str) -> None:
    colour = np.zeros((SIDE_PX, SIDE_PX, 1), np.float32)
    colour[2, 1, 0] = np.nan
    units = PicturesToCodes([Picture(colour, Scale(0.0, 1.0, clip=True), prefix)], code_length=LENGTH)
    with pytest.raises(InvalidSamples, match="row 2, column 1") as caught:
        units.read(0, 1, np.empty((1, *SHAPE), np.float32))
    assert caught.value.field == f"{prefix}image.raw.data"


def test_codes_and_their_spread_are_kept_by_picture() -> None:
    units = PicturesToCodes([picture(1), picture(2), picture(3)], code_length=LENGTH)
    codes = np.arange(3 * LENGTH, dtype=np.float32).reshape(3, LENGTH)
    units.write(1, 2, codes[1:], np.empty((2, *SHAPE), np.float32), -codes[1:])
    units.write(0, 1, codes[:1], np.empty((1, *SHAPE), np.float32), -codes[:1])
    np.testing.assert_array_equal(units.codes, codes)
    assert units.log_variances is not None
    np.testing.assert_array_equal(units.log_variances, -codes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_code_that_is_not_finite_is_the_models_failure(bad: float, which: int) -> None:
    answers = [np.zeros((1, LENGTH), np.float32), np.zeros((1, LENGTH), np.float32)]
    answers[which][0, 3] = bad
    units = PicturesToCodes([picture()], code_length=LENGTH)
    with pytest.raises(NonFiniteOutput):
        units.write(0, 1, answers[0], np.empty((1, *SHAPE), np.float32), answers[1])


@given(count=st.integers(1, 20), first=st.integers(0, 19), dtype=st.sampled_from(["<u1", "<u2", "<f4"]))
def test_images_have_the_form_that_was_asked_for(count: int, first: int, dtype: str) -> None:
    first = min(first, count - 1)
    white = {"<u1": 255.0, "<u2": 65535.0, "<f4": 1.0}[dtype]
    form = PictureForm(SIDE_PX, SIDE_PX, 1, np.dtype(dtype), Scale(0.0, white, clip=True))
    units = CodesToPictures(code_of, count, code_length=LENGTH, form=form)
    out = np.empty((count - first, LENGTH), np.float32)
    units.read(first, count - first, out)
    answers = np.full((count - first, *SHAPE), 0.5, np.float32)
    units.write(first, count - first, answers, out, None)
    assert (units.pictures.shape, units.pictures.dtype.str) == ((count, SIDE_PX, SIDE_PX, 1), np.dtype(dtype).str)
    assert units.pictures[0].nbytes == form.picture_bytes
    for index in range(first, count):
        np.testing.assert_array_equal(units.codes[index], code_of(index))
        np.testing.assert_allclose(units.pictures[index], np.full(SHAPE[::-1], white / 2), atol=0.5)


def test_an_image_that_is_not_finite_is_the_models_failure() -> None:
    units = CodesToPictures(code_of, 1, code_length=LENGTH, form=FORM)
    answer = np.full((1, *SHAPE), np.nan, np.float32)
    with pytest.raises(NonFiniteOutput):
        units.write(0, 1, answer, np.empty((1, LENGTH), np.float32), None)
