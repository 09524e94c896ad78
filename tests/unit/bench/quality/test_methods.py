"""Classical methods take noise away when they are told how much; what is absent is named."""

import sys

import numpy as np
import pytest

from denoised.noise import benchmark_noisy
from denoised.quality import psnr_db
from tests.bench.quality.images import photographs
from tests.bench.quality.methods import Classical, classical_methods
from tests.bench.quality.scores import figures_of

pytest.importorskip("cv2", reason="the classical methods need the training environment")
pytest.importorskip("pywt", reason="the classical methods need the training environment")

pytestmark = pytest.mark.training

_METHODS = list(classical_methods(pytest.fail))


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("is_grey", [False, True])
def test_a_photograph_gains_and_keeps_its_form_and_colours(method: Classical, *, is_grey: bool) -> None:
    image = photographs(1)[0]
    clean = (image.grey() if is_grey else image).samples[:128, 200:328]
    noisy = benchmark_noisy(clean, sigma=25, index=0)

    answer = method.answer(noisy, 25.0)

    assert answer.samples.shape == clean.shape
    assert answer.samples.dtype == np.uint8
    assert answer.wall_s > 0
    assert psnr_db(answer.samples, clean) > psnr_db(noisy, clean) + 3
    # Channels in the wrong order would be far off.
    assert np.abs(np.mean(answer.samples.astype(float) - clean, axis=(0, 1))).max() < 4


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_being_told_of_no_noise_leaves_the_image(method: Classical) -> None:
    clean = photographs(1)[0].samples[:64, 200:264]

    assert figures_of(method.answer(clean, 0.0).samples, clean)[0] > 40


def test_a_missing_library_skips_its_own_row_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    said: list[str] = []

    names = [method.name for method in classical_methods(said.append)]

    assert names == ["OpenCV NLM", "scikit-image NLM", "TV Chambolle"]
    (line,) = said
    assert "wavelet BayesShrink skipped" in line
    assert "pywt" in line
