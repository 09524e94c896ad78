"""Whether test images are among the images to train on: as they are, re-encoded, resized, or cropped.

A figure that was measured on images which the network has seen says nothing. Exact copies are told by their digests.
Each other pair of pictures is compared by its features; what they suggest is believed only when the pictures, laid over
one another, correlate window by window. Where one is too small for features, thumbnails are compared: it is found as
the whole of another picture, never as a crop of it. Pictures with next to no texture are found as exact copies alone.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from training.data.features import Likeness, Look, likeness_as_wholes, likeness_by_features, look_at
from training.data.manifest import Overlap
from training.data.pack import samples_sha256
from training.data.samples import Samples

# Different photographs reached 0.6 where enough features agreed by chance; crops, resized and recompressed, 0.77.
_LEAST_CORRELATION: Final = 0.7
# What two pictures share must be this large in one of them: a logo in both is no leak.
_LEAST_SHARE: Final = 0.2
# Thumbnails of pictures that may be the same; different ones pass at times and are told apart by their details.
_CANDIDATE_THUMBNAIL: Final = 0.95
# Of tiny pictures, which have no more details: between 9,000 and 1,000 different MNIST digits at most 0.992.
_SAME_THUMBNAIL: Final = 0.995
# Of a tiny picture and a larger one: among 129 photographs, each made 24 to 40 pixels large, the others reached 0.917,
# its own 0.978 in all but one.
_SHRUNK_THUMBNAIL: Final = 0.97
_WHOLE_SHARE: Final = 0.9
_CHUNK_COUNT: Final = 64


# Shape, type and digest of the samples.
_Content: TypeAlias = tuple[tuple[int, ...], str, str]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that can be loaded when it is its turn."""

    name: str
    load: Callable[[], Samples]


def find_overlaps(
    packed: Sequence[Picture], test: Sequence[Picture], on_compared: Callable[[str], None] = lambda _: None
) -> tuple[Overlap, ...]:
    """Test images that are among the packed ones, in the order of the test images; each is named once.

    Both must have as many channels for exact copies to be equal.

    What is remembered of the test images stays in memory (some 0.5 MB each); packed images are looked at once, one
    after the other.

    Args:
        packed: the images to train on, and those held out.
        test: the images to look for.
        on_compared: called with each packed image's name.
    """
    found: dict[int, Overlap] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="look") as pool:
        remembered = _Remembered(list(pool.map(_seen, test)))
        if not test:
            return ()
        for start in range(0, len(packed), _CHUNK_COUNT):
            chunk = packed[start : start + _CHUNK_COUNT]
            for picture, likenesses in zip(chunk, pool.map(remembered.overlapping, chunk), strict=True):
                for index, how in likenesses:
                    found.setdefault(index, Overlap(test[index].name, picture.name, how))
                on_compared(picture.name)
    return tuple(found[index] for index in sorted(found))


def _seen(picture: Picture) -> tuple[Look, _Content | None]:
    """What is remembered of a picture; one of a single value has no content that could be given away."""
    samples = picture.load()
    content = None
    if samples.min() != samples.max():
        content = (samples.shape, samples.dtype.str, samples_sha256(samples))
    return look_at(samples), content


class _Remembered:
    """The test images, of which packed ones are compared with all."""

    def __init__(self, seen: Sequence[tuple[Look, _Content | None]]) -> None:
        self._looks = [look for look, _ in seen]
        self._thumbnails = np.array([look.thumbnail for look in self._looks])
        self._indices_of: dict[_Content, set[int]] = defaultdict(set)
        for index, (_, content) in enumerate(seen):
            if content is not None:
                self._indices_of[content].add(index)

    def overlapping(self, picture: Picture) -> list[tuple[int, str]]:
        """Indices of the test images that a packed one overlaps, and how."""
        look, content = _seen(picture)
        copies = self._indices_of.get(content, set()) if content is not None else set[int]()
        similar = self._thumbnails @ look.thumbnail
        # One look at all thumbnails where they alone decide: sets of tiny pictures have tens of thousands.
        candidates = np.flatnonzero(similar >= _SHRUNK_THUMBNAIL).tolist() if look.is_tiny else range(len(self._looks))
        found = [(index, "a copy of") for index in sorted(copies)]
        for index in candidates:
            how = None if index in copies else _how_alike(look, self._looks[index], float(similar[index]))
            if how is not None:
                found.append((index, how))
        return found


def _how_alike(look: Look, test_look: Look, similar: float) -> str | None:
    """What the test image is of the packed one, in words; None of an unrelated one."""
    if look.is_tiny and test_look.is_tiny:
        return "a copy of" if similar >= _SAME_THUMBNAIL else None
    if look.is_tiny or test_look.is_tiny:
        return f"a copy{_size(test_look.longest_px / look.longest_px)} of" if similar >= _SHRUNK_THUMBNAIL else None
    likeness = likeness_by_features(look, test_look)
    if not _is_overlap(likeness) and similar >= _CANDIDATE_THUMBNAIL:
        likeness = likeness_as_wholes(look, test_look)
    return _in_words(likeness) if likeness is not None and _is_overlap(likeness) else None


def _is_overlap(likeness: Likeness | None) -> bool:
    return (
        likeness is not None
        and likeness.correlation >= _LEAST_CORRELATION
        and max(likeness.share_of_first, likeness.share_of_second) >= _LEAST_SHARE
    )


def _in_words(likeness: Likeness) -> str:
    """What the test image is of the packed one."""
    size = _size(likeness.scale)
    whole_test = likeness.share_of_second >= _WHOLE_SHARE
    if whole_test and likeness.share_of_first >= _WHOLE_SHARE:
        return f"a copy{size} of"
    if whole_test:
        return f"a crop ({likeness.share_of_first:.0%} of the area){size} of"
    if likeness.share_of_first >= _WHOLE_SHARE:
        return "contains"
    return f"shares {likeness.share_of_second:.0%} of its area with"


def _size(scale: float) -> str:
    return "" if 0.95 < scale < 1.05 else f" at {scale:.2f} times its size"
