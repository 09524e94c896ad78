"""The model card says in words what the contract and the run's config say in figures."""

import pytest

from denoised.noise import Demosaic, Gaussian, Jpeg, NoiseSpec, PoissonGaussian, Resize
from training.export.card import noise_in_words

pytestmark = pytest.mark.training

_CHAIN = (
    "white Gaussian noise, sigma 5 to 25 8-bit levels, then demosaicing, then grain from a grid 0.5 to 1 times the "
    "size, then JPEG of quality 60 to 95 (4:2:0) on 50% of the images; in random order on 25% of the images; clipped "
    "to black..white, rounded to u16"
)


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (NoiseSpec(), "none was added: images are taken as they are"),
        (
            NoiseSpec.gaussian(0, 55),
            "white Gaussian noise, sigma 0 to 55 8-bit levels; clipped to black..white, rounded to u8",
        ),
        (
            NoiseSpec(stages=(PoissonGaussian(0.001, 0.01, 1.0, 4.0),), clip=False, quantise="none"),
            "sensor noise, gain 0.001 to 0.01 and read noise 1 to 4 8-bit levels; not clipped",
        ),
        (
            NoiseSpec(
                stages=(Gaussian(5, 25), Demosaic(), Resize(0.5, 1.0), Jpeg(60, 95, share=0.5)),
                shuffle_share=0.25,
                quantise="u16",
            ),
            _CHAIN,
        ),
    ],
    ids=["none", "gaussian", "sensor", "chain"],
)
def test_a_noise_spec_is_one_sentence(noise: NoiseSpec, words: str) -> None:
    assert noise_in_words(noise) == words
