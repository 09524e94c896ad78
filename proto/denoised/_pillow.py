"""Images of Pillow's to arrays and back, for callers who have them. Pillow itself is not needed: whoever passes such an
image has imported it.
"""

import sys
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from denoised.errors import InvalidImageError, UnsupportedImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

AnyArray = NDArray[Any]

_AS_THEY_ARE: Final = frozenset({"L", "LA", "RGB", "RGBA", "I;16", "F"})
_WITH_ALPHA: Final = {"L": "LA", "RGB": "RGBA", "P": "RGBA", "1": "LA"}
_WITHOUT_ALPHA: Final = {"P": "RGB", "PA": "RGBA", "1": "L"}
_LARGEST_OF_16_BITS: Final = 65535
# Of the pixels as they were; the answer's are in no file yet, and have their alpha in a channel.
_NOT_KEPT: Final = frozenset({"transparency"})


def is_pillow_image(image: object) -> "TypeGuard[PillowImage]":
    """Whether it is one, without importing Pillow."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def array_of(image: "PillowImage") -> AnyArray:
    """The samples: (H, W) or (H, W, C) of uint8, uint16 or float32.

    Palettes and black-and-white become RGB and grey; a colour that stands for transparency becomes alpha.

    Raises:
        InvalidImageError: its file is damaged.
        UnsupportedImageError: it is in a mode that is not served.
    """
    try:
        image.load()
    except OSError as error:
        raise InvalidImageError(
            f"the Pillow image can't be read: {error}", reason="IMAGE_UNDECODABLE", field="image"
        ) from error
    mode = (_WITH_ALPHA if "transparency" in image.info else _WITHOUT_ALPHA).get(image.mode, image.mode)
    if mode == "I":
        samples = np.asarray(image)
        if samples.min() >= 0 and samples.max() <= _LARGEST_OF_16_BITS:
            return samples.astype(np.uint16)
    if mode not in _AS_THEY_ARE:
        raise UnsupportedImageError(
            f"the Pillow image has mode {image.mode!r}; served are {', '.join(sorted(_AS_THEY_ARE))}: convert it, for "
            "example with image.convert('RGB')",
            reason="IMAGE_UNSUPPORTED",
            field="image",
        )
    return np.asarray(image if mode == image.mode else image.convert(mode))


def image_of(samples: AnyArray, question: "PillowImage") -> "PillowImage":
    """The answer's samples as an image, with what the question's file said besides: profile, EXIF, resolution."""
    from PIL import Image

    image = Image.fromarray(samples)
    if question.mode == "I":
        image = image.convert("I")
    image.info = {key: value for key, value in question.info.items() if key not in _NOT_KEPT}
    return image
