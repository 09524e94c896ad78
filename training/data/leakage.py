"""Whether test images are among the images to train on: as they are, re-encoded, resized, or cropped.

A figure that was measured on images which the network has seen says nothing. Each pair of pictures is compared by its
features; what they suggest is believed only when the pictures, laid over one another, correlate window by window.
Pictures too small for features are compared by their thumbnails.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.features import Likeness, Look, likeness_as_wholes, likeness_by_features, look_at
from training.data.manifest import Overlap
from training.data.samples import Samples

# Different photographs reached 0.6 where enough features agreed by chance; crops, resized and recompressed, 0.77.
_LEAST_CORRELATION: Final = 0.7
# What two pictures share must be this large in one of them: a logo in both is no leak.
_LEAST_SHARE: Final = 0.2
# Thumbnails of pictures that may be the same; different ones pass at times and are told apart by their details.
_CANDIDATE_THUMBNAIL: Final = 0.95
# Of tiny pictures, which have no more details: between 9,000 and 1,000 different MNIST digits at most 0.992.
_SAME_THUMBNAIL: Final = 0.995
_WHOLE_SHARE: Final = 0.9
_CHUNK_COUNT: Final = 64


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that can be loaded when it is its turn."""

    name: str
    load: Callable[[], Samples]


def find_overlaps(
    packed: Sequence[Picture], test: Sequence[Picture], on_compared: Callable[[str], None] = lambda _: None
) -> tuple[Overlap, ...]:
    """Test images that are among the packed ones, in the order of the test images; each is named once.

    What is remembered of the test images stays in memory (some 0.5 MB each); packed images are looked at once, one
    after the other.

    Args:
        packed: the images to train on, and those held out.
        test: the images to look for.
        on_compared: called with each packed image's name.
    """
    found: dict[int, Overlap] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="look") as pool:
        test_looks = list(pool.map(lambda picture: look_at(picture.load()), test))
        if not test_looks:
            return ()
        thumbnails = np.stack([look.thumbnail for look in test_looks])
        for start in range(0, len(packed), _CHUNK_COUNT):
            chunk = packed[start : start + _CHUNK_COUNT]
            compare = partial(_compare, test_looks, thumbnails)
            for picture, likenesses in zip(chunk, pool.map(compare, chunk), strict=True):
                for index, how in likenesses:
                    found.setdefault(index, Overlap(test[index].name, picture.name, how))
                on_compared(picture.name)
    return tuple(found[index] for index in sorted(found))


def _compare(test_looks: Sequence[Look], thumbnails: NDArray[np.float32], picture: Picture) -> list[tuple[int, str]]:
    """Indices of the test images that a packed one overlaps, and how."""
    look = look_at(picture.load())
    similar = thumbnails @ look.thumbnail
    return list(_overlapping(look, test_looks, similar))


def _overlapping(look: Look, test_looks: Sequence[Look], similar: NDArray[np.float32]) -> Iterator[tuple[int, str]]:
    if look.is_tiny:
        alike: list[int] = np.flatnonzero(similar >= _SAME_THUMBNAIL).tolist()
        yield from ((index, "a copy of") for index in alike if test_looks[index].is_tiny)
        return
    for index, test_look in enumerate(test_looks):
        if test_look.is_tiny:
            continue
        likeness = likeness_by_features(look, test_look)
        if not _is_overlap(likeness) and similar[index] >= _CANDIDATE_THUMBNAIL:
            likeness = likeness_as_wholes(look, test_look)
        if likeness is not None and _is_overlap(likeness):
            yield index, _in_words(likeness)


def _is_overlap(likeness: Likeness | None) -> bool:
    return (
        likeness is not None
        and likeness.correlation >= _LEAST_CORRELATION
        and max(likeness.share_of_first, likeness.share_of_second) >= _LEAST_SHARE
    )


def _in_words(likeness: Likeness) -> str:
    """What the test image is of the packed one."""
    size = "" if 0.95 < likeness.scale < 1.05 else f" at {likeness.scale:.2f} times its size"
    whole_test = likeness.share_of_second >= _WHOLE_SHARE
    if whole_test and likeness.share_of_first >= _WHOLE_SHARE:
        return f"a copy{size} of"
    if whole_test:
        return f"a crop ({likeness.share_of_first:.0%} of the area){size} of"
    if likeness.share_of_first >= _WHOLE_SHARE:
        return "contains"
    return f"shares {likeness.share_of_second:.0%} of its area with"
