"""The linear probe: codes that hold the label, codes that don't, and intervals of shares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.errors import DataError

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import Tensor

from training.evaluation.probe import probe_codes, wilson_interval
from training.networks.base import Code, LatentNetwork

pytestmark = pytest.mark.training


class Corner(LatentNetwork):
    """Its code is one pixel of the image."""

    channels = 1
    code_length = 1

    def __init__(self, row: int) -> None:
        super().__init__()
        self.row = row

    def encode(self, noisy: Tensor) -> Code:
        return Code(noisy[:, 0, self.row, :1], None)


def labelled(count: int, seed: int) -> list[tuple[NDArray[np.float32], str]]:
    """The first pixel tells the label, the others nothing."""
    rng = np.random.default_rng(seed)
    pictures = rng.random((count, 4, 4, 1), dtype=np.float32)
    names = ["dark" if picture[0, 0, 0] < 0.5 else "light" for picture in pictures]
    return list(zip(pictures, names, strict=True))


def test_a_code_that_holds_the_label_is_read_and_another_is_not() -> None:
    probe = probe_codes(Corner(0), Corner(3), labelled(400, 0), labelled(300, 1))
    assert probe.network_accuracy > 0.97
    assert 0.35 < probe.pca_accuracy < 0.65
    assert (probe.train_count, probe.test_count, probe.class_count, probe.code_length) == (400, 300, 2, 1)


def test_labels_that_training_lacks_are_named() -> None:
    picture = labelled(1, 0)[0][0]
    with pytest.raises(DataError, match="at least two labels"):
        probe_codes(Corner(0), Corner(0), [(picture, "a")], [(picture, "a")])
    with pytest.raises(DataError, match="lacks c"):
        probe_codes(Corner(0), Corner(0), [(picture, "a"), (picture, "b")], [(picture, "c")])


@given(st.integers(1, 1000), st.data())
def test_intervals_of_shares_hold_the_share_and_stay_in_range(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    low, high = wilson_interval(right, count)
    assert 0.0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1.0


def test_a_known_interval() -> None:
    # Brown, Cai, DasGupta, "Interval estimation for a binomial proportion", 2001: the score interval for 5 of 10.
    low, high = wilson_interval(5, 10)
    assert (low, high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
