"""The energy of an input in nats: how many it takes to describe its code, and then the input given that code.

Ranzato, Boureau, Chopra, LeCun, "A Unified Energy-Based Framework for Unsupervised Learning", AISTATS 2007, add
the two terms; read as negative log-likelihoods they have units, and for a variational autoencoder the sum is the
negative evidence lower bound (Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014). Where skips go round
the code, the compression term is undefined, and so is the sum. Public through ``denoised.statistics``.

Densities are of values in 0..1: a Gaussian energy may be negative, and log2(255) more bits for each sample make it
the length of a code for 8-bit levels.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Likelihood = Literal["gaussian", "bernoulli"]
Floats = NDArray[np.floating]

# Probabilities of a Bernoulli energy are kept this far from 0 and 1, or one wrong pixel would cost infinitely much.
BERNOULLI_MARGIN: Final = 1e-6


def gaussian_nats(image: Floats, reconstruction: Floats, *, sigma: float) -> float:
    """-ln of the density of ``image`` under independent Gaussians around its reconstruction.

    sum((y - x)^2) / (2 s^2) + N ln(s) + N/2 ln(2 pi).

    Args:
        image, reconstruction: of one shape, in 0..1 units.
        sigma: s, in the same units; a constant of the model, not of the image.
    """
    difference = np.subtract(image, reconstruction, dtype=np.float64).ravel()
    return gaussian_nats_of(float(difference @ difference), image.size, sigma=sigma)


def gaussian_nats_of(square_error: float, value_count: int, *, sigma: float) -> float:
    """As :func:`gaussian_nats`, of the sum of squared differences over that many values."""
    return square_error / (2.0 * sigma * sigma) + value_count * _gaussian_constant(sigma)


def bernoulli_nats(image: Floats, reconstruction: Floats) -> float:
    """Cross-entropy of ``image`` against its reconstruction read as probabilities of white.

    -sum(y ln(p) + (1 - y) ln(1 - p)), p kept 1e-6 from 0 and 1. An energy of black-and-white pictures; for grey
    values it is a bound that no reconstruction brings to 0.
    """
    probability = np.clip(reconstruction.astype(np.float64), BERNOULLI_MARGIN, 1.0 - BERNOULLI_MARGIN)
    return float(-np.sum(image * np.log(probability) + (1.0 - image) * np.log1p(-probability)))


def kl_nats(mean: Floats, log_variance: Floats) -> float:
    """KL divergence of a diagonal Gaussian posterior from the standard normal prior.

    sum(mu^2 + v - 1 - ln(v)) / 2, v = exp(log_variance): Kingma, Welling 2014, appendix B.
    """
    mu, log_v = mean.astype(np.float64), log_variance.astype(np.float64)
    return float(0.5 * np.sum(mu * mu + np.exp(log_v) - 1.0 - log_v))


@dataclass(frozen=True, slots=True, eq=False)
class CodeDensity:
    """A Gaussian fitted to the codes of a deterministic encoder.

    Attributes:
        mean: (d,).
        whitening: W with W covariance W^T = 1: (d, d) lower triangular, or (d,) for a diagonal one. Stored in
            place of the covariance, because then nothing has to be inverted for each image.
    """

    mean: Floats
    whitening: Floats

    def squared_distance(self, code: Floats) -> float:
        """Squared Mahalanobis distance of (d,) from the mean; d on average for codes like those it was fitted to."""
        offset = code.astype(np.float64) - self.mean
        white = self.whitening * offset if self.whitening.ndim == 1 else self.whitening @ offset
        return float(white @ white)

    def nats(self, code: Floats) -> float:
        """-ln of the density at ``code``: distance^2 / 2 + ln(det(covariance)) / 2 + d/2 ln(2 pi)."""
        diagonal = self.whitening if self.whitening.ndim == 1 else np.diagonal(self.whitening)
        half_log_determinant = -float(np.sum(np.log(diagonal)))
        return 0.5 * self.squared_distance(code) + half_log_determinant + self.mean.size * _gaussian_constant(1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """A latent code of one image: ``mean`` (d,), and ``log_variance`` (d,) where the encoder answers with both."""

    mean: Floats
    log_variance: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EnergyModel:
    """What turns a reconstruction and a code into nats; constants of the model, from its calibration.

    Attributes:
        likelihood: of the image given its reconstruction.
        sigma: s of the Gaussian, in 0..1 units; the Bernoulli has none.
        code_density: of the codes of a deterministic encoder; None where they have a posterior, or there is no code.
    """

    likelihood: Likelihood = "gaussian"
    sigma: float = 0.1
    code_density: CodeDensity | None = None

    def reconstruction_nats(self, image: Floats, reconstruction: Floats) -> float:
        """The reconstruction term."""
        if self.likelihood == "bernoulli":
            return bernoulli_nats(image, reconstruction)
        return gaussian_nats(image, reconstruction, sigma=self.sigma)

    def compression_nats(self, code: Code | None) -> float | None:
        """The compression term, or None where it is undefined: no code, or a code of which nothing is known."""
        if code is None:
            return None
        if code.log_variance is not None:
            return kl_nats(code.mean, code.log_variance)
        return self.code_density.nats(code.mean) if self.code_density is not None else None


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one image.

    Attributes:
        reconstruction_nats: always defined.
        compression_nats: None where it is undefined, as for networks whose skips go round the code.
        pixel_count: of the image.
    """

    reconstruction_nats: float
    compression_nats: float | None
    pixel_count: int

    @property
    def total_nats(self) -> float | None:
        """The sum, where both terms are defined."""
        return None if self.compression_nats is None else self.compression_nats + self.reconstruction_nats

    @property
    def reconstruction_bits_per_pixel(self) -> float:
        return bits_per_pixel(self.reconstruction_nats, self.pixel_count)

    @property
    def total_bits_per_pixel(self) -> float | None:
        return None if self.total_nats is None else bits_per_pixel(self.total_nats, self.pixel_count)


def bits_per_pixel(nats: float, pixel_count: int) -> float:
    """Nats of an image as bits for each of its pixels."""
    return nats / (pixel_count * float(np.log(2.0)))


def _gaussian_constant(sigma: float) -> float:
    """What each value costs where the reconstruction is right: ln(s sqrt(2 pi))."""
    return float(np.log(sigma) + 0.5 * np.log(2.0 * np.pi))
