"""Colour and alpha apart, as the stages need them, and together, as files and raw samples hold them."""

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidImage
from service.types import Image, ImageHeader, Metadata, Samples

FIELD = "image.encoded.data"
"""The request's field that holds an image file."""


def from_decoder(samples: Samples, header: ImageHeader, metadata: Metadata) -> Image:
    """What a decoder gave, as an image, provided that it is what the header promised to admission."""
    if samples.ndim == 2:
        samples = samples[..., np.newaxis]
    promised = (header.height_px, header.width_px, header.channels)
    if samples.shape != promised or samples.dtype.itemsize * 8 != header.bits:
        raise InvalidImage(
            f"the header promised {promised} samples of {header.bits} bits (height, width, channels), the file "
            f"holds {samples.shape} of {samples.dtype.itemsize * 8} bits; save it anew",
            field=FIELD,
        )
    return split(samples, black_level=0.0, white_level=float((1 << header.bits) - 1), metadata=metadata)


def split(samples: Samples, *, black_level: float, white_level: float, metadata: Metadata) -> Image:
    """(H, W, C) samples as an image; colour and alpha are views, so nothing is copied."""
    has_alpha = samples.shape[2] in {2, 4}
    return Image(
        colour=samples[..., :-1] if has_alpha else samples,
        alpha=samples[..., -1] if has_alpha else None,
        black_level=black_level,
        white_level=white_level,
        metadata=metadata,
    )


def join(image: Image) -> NDArray[np.uint8 | np.uint16 | np.float32]:
    """(H, W, C) samples in C order, alpha last."""
    colour, alpha = image.colour, image.alpha
    samples = colour if alpha is None else np.concatenate((colour, alpha[..., np.newaxis]), axis=2)
    # Axes of length 1 may have any stride and still be in C order for NumPy, but not for imagecodecs.
    return np.ascontiguousarray(samples).reshape(-1).reshape(samples.shape)
