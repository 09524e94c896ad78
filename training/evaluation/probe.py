"""A linear probe: do codes hold what the pictures are of, and do they hold more than principal components?

Logistic regression on standardised codes against the same on as many principal components of the same images. Labels
are the names of the folders that the images lie in. Needs scikit-learn.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.noise import Image
from training.errors import DataError
from training.evaluation.inference import encode_all
from training.evaluation.scores import Probe
from training.networks.base import LatentNetwork

_ITERATIONS: Final = 2000
_SEED: Final = 0
_Z: Final = 1.959963984540054


def probe_codes(
    network: LatentNetwork,
    components: LatentNetwork,
    train: Sequence[tuple[Image, str]],
    test: Sequence[tuple[Image, str]],
) -> Probe:
    """Accuracy of both on the test images.

    Args:
        network: whose codes are read.
        components: principal components of the same length, solved on the training images.
        train, test: images with their labels.

    Raises:
        DataError: fewer than two labels, or a test image with a label that training lacks.
    """
    labels = {label for _, label in train}
    unknown = sorted({label for _, label in test} - labels)
    if len(labels) < 2 or unknown:
        raise DataError(
            f"the probe needs at least two labels, the names of the folders that images lie in; training has "
            f"{len(labels)}" + (f", and lacks {', '.join(unknown)}" if unknown else "")
        )
    names = [np.array([label for _, label in part]) for part in (train, test)]
    right, pca_right = (
        _right_count([encode_all(encoder, [image for image, _ in part]) for part in (train, test)], names)
        for encoder in (network, components)
    )
    network_low, network_high = wilson_interval(right, len(test))
    pca_low, pca_high = wilson_interval(pca_right, len(test))
    return Probe(
        code_length=network.code_length,
        train_count=len(train),
        test_count=len(test),
        class_count=len(labels),
        network_accuracy=right / len(test),
        network_low=network_low,
        network_high=network_high,
        pca_accuracy=pca_right / len(test),
        pca_low=pca_low,
        pca_high=pca_high,
    )


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927): holds near 0 and 1 too, where the usual one runs out of the range."""
    share = right / count
    centre = share + _Z**2 / (2 * count)
    half = _Z * float(np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)))
    scale = 1 + _Z**2 / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _right_count(codes: Sequence[NDArray[np.float32]], names: Sequence[NDArray[np.str_]]) -> int:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS, random_state=_SEED))
    model.fit(codes[0].astype(np.float64), names[0])
    return int(np.sum(model.predict(codes[1].astype(np.float64)) == names[1]))
