"""Fits the distribution of a deterministic encoder's codes, as a service compares later codes with it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from denoised.statistics import CodeDensity

# A triangle for longer codes would be most of the model file, and its d^2 products most of the answer's time.
_LONGEST_FULL_CODE: Final = 128
# Units that never move would have a density without bounds; relative to the one that moves most.
_LEAST_RELATIVE_SCALE: Final = 1e-3


def fit_code_density(codes: NDArray[np.float32]) -> CodeDensity:
    """A Gaussian with the codes' mean and shrunk covariance.

    Shrinkage by Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88(2), 2004, of the correlations, so that units of small range keep theirs. The covariance
    of codes longer than 128 is taken for diagonal.

    Args:
        codes: (N, d) of held-out images.
    """
    wide = codes.astype(np.float64)
    mean, scale = wide.mean(axis=0), wide.std(axis=0)
    largest = float(scale.max())
    scale = np.maximum(scale, _LEAST_RELATIVE_SCALE * largest if largest > 0.0 else 1.0)
    if wide.shape[1] > _LONGEST_FULL_CODE:
        whitening = 1.0 / scale
    else:
        correlation, _ = ledoit_wolf((wide - mean) / scale, assume_centered=True)
        correlation += _LEAST_RELATIVE_SCALE**2 * np.eye(len(scale))
        whitening = np.linalg.inv(np.linalg.cholesky(correlation)) / scale
        # The inverse of a triangle is one; what lies above is rounding.
        whitening = np.tril(whitening)
    return CodeDensity(mean.astype(np.float32), whitening.astype(np.float32))
