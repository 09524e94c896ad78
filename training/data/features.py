"""What a picture is recognised by: local features that survive scaling, cropping and recompression, and a thumbnail.

OpenCV's SIFT on a grey form of limited size with its contrast stretched, so that neither a camera's resolution nor
its black and white levels matter. It compares two pictures; which ones are compared is ``leakage``'s matter.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.samples import Samples, grey_of

Float = NDArray[np.float32]

# Features are looked for in this size; half of it still shows what matters in a quarter of the area.
_WORK_SIDE_PX: Final = 512
# Smaller pictures are doubled first: a feature needs some 16 pixels around it.
_DOUBLED_BELOW_PX: Final = 256
_FEATURE_COUNT: Final = 500
_CONTRAST_THRESHOLD: Final = 0.015
_THUMBNAIL_SIDE_PX: Final = 16
# Up to here a picture is too small for features; its thumbnail says nearly everything.
TINY_SIDE_PX: Final = 40

_MATCH_RATIO: Final = 0.85
_MOST_TURNED_DEG: Final = 20.0
# Chance matches agree neither in angle nor in place: between 133 and 24 different photographs no more than 4 of 9 did.
_FEWEST_MATCHES: Final = 6
_RANSAC_ERROR_PX: Final = 3.0
_LARGEST_SCALE: Final = 16.0

_WINDOW_PX: Final = 15
_TEXTURE_VARIANCE: Final = 20.0
_FEWEST_TEXTURED_PX: Final = 200


@dataclass(frozen=True, slots=True)
class Look:
    """A picture as it is compared.

    Attributes:
        height_px, width_px: of the picture itself.
        grey: (h, w) uint8, limited in size, contrast stretched.
        points, angles_deg, descriptors: (n, 2), (n,), (n, 128) of its features; descriptors have unit length.
        thumbnail: (256,) with mean 0 and length 1; all zero for a picture without contrast.
    """

    height_px: int
    width_px: int
    grey: NDArray[np.uint8]
    points: Float
    angles_deg: Float
    descriptors: Float
    thumbnail: Float

    @property
    def longest_px(self) -> int:
        return max(self.height_px, self.width_px)

    @property
    def is_tiny(self) -> bool:
        return self.longest_px <= TINY_SIDE_PX


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a picture lies in another one.

    Attributes:
        correlation: median of the local correlation where they overlap and have texture.
        share_of_first, share_of_second: the overlap in their areas.
        scale: pixels of the second for one of the first.
    """

    correlation: float
    share_of_first: float
    share_of_second: float
    scale: float


def look_at(samples: Samples) -> Look:
    """Prepares a picture for comparisons."""
    height_px, width_px, _ = samples.shape
    grey = _grey(samples)
    points, angles_deg = np.empty((0, 2), np.float32), np.empty(0, np.float32)
    descriptors = np.empty((0, 128), np.float32)
    if max(height_px, width_px) > TINY_SIDE_PX:
        sift = cv2.SIFT.create(nfeatures=_FEATURE_COUNT, contrastThreshold=_CONTRAST_THRESHOLD)
        found, raw = sift.detectAndCompute(grey, None)
        if len(found):
            points = np.array([feature.pt for feature in found], np.float32)
            angles_deg = np.array([feature.angle for feature in found], np.float32)
            # Square roots of shares: their scalar product is the Hellinger similarity, which tells better.
            descriptors = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
    small = cv2.resize(grey, (_THUMBNAIL_SIDE_PX, _THUMBNAIL_SIDE_PX), interpolation=cv2.INTER_AREA)
    thumbnail = small.astype(np.float32).ravel()
    thumbnail -= thumbnail.mean()
    length = float(np.linalg.norm(thumbnail))
    thumbnail = thumbnail / length if length > 1 else np.zeros_like(thumbnail)
    return Look(height_px, width_px, grey, points, angles_deg, descriptors, thumbnail)


def likeness_by_features(first: Look, second: Look) -> Likeness | None:
    """How the second picture overlaps the first, moved and scaled; None when too few features agree."""
    pairs = _matches(first, second)
    if len(pairs) < _FEWEST_MATCHES:
        return None
    matrix, inliers = cv2.estimateAffinePartial2D(
        first.points[pairs[:, 0]],
        second.points[pairs[:, 1]],
        method=cv2.RANSAC,
        ransacReprojThreshold=_RANSAC_ERROR_PX,
    )
    # No matrix comes with no inliers.
    if np.count_nonzero(inliers) < _FEWEST_MATCHES:
        return None
    return _likeness(first, second, np.asarray(matrix, np.float64))


def likeness_as_wholes(first: Look, second: Look) -> Likeness | None:
    """How alike two pictures are when one is laid over the other whole; None when their shapes differ."""
    scales = np.array(second.grey.shape) / np.array(first.grey.shape)
    if not 0.95 < scales[0] / scales[1] < 1.05:
        return None
    # Pixels are areas: their centres lie half a pixel in.
    shift = (scales - 1) / 2
    return _likeness(first, second, np.array([[scales[1], 0, shift[1]], [0, scales[0], shift[0]]]))


def _grey(samples: Samples) -> NDArray[np.uint8]:
    height_px, width_px, channels = samples.shape
    longest_px = max(height_px, width_px)
    scale = min(1.0, _WORK_SIDE_PX / longest_px)
    if TINY_SIDE_PX < longest_px < _DOUBLED_BELOW_PX:
        scale = 2.0
    picture: Any = np.asarray(samples)
    if scale != 1.0:
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = cv2.resize(picture, size, interpolation=way).reshape(size[1], size[0], channels)
    values = (grey_of(picture) if channels == 3 else picture)[:, :, 0].astype(np.float32)
    low, high = np.quantile(values, (0.005, 0.995))
    stretched = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return np.clip(stretched, 0, 255).astype(np.uint8)


def _matches(first: Look, second: Look) -> NDArray[np.intp]:
    """(n, 2) indices of features that are each other's best match, clearly, and are not turned."""
    if min(len(first.points), len(second.points)) < _FEWEST_MATCHES:
        return np.empty((0, 2), np.intp)
    similar = first.descriptors @ second.descriptors.T
    rows = np.arange(len(similar))
    best = similar.argmax(axis=1)
    best_value = similar[rows, best]
    mutual = similar.argmax(axis=0)[best] == rows
    similar[rows, best] = -1
    # Distances of unit vectors are sqrt(2 - 2 s).
    is_clear = 1 - best_value < _MATCH_RATIO**2 * (1 - similar.max(axis=1))
    turned_deg = np.abs((first.angles_deg - second.angles_deg[best] + 180) % 360 - 180)
    chosen = np.flatnonzero(mutual & is_clear & (turned_deg < _MOST_TURNED_DEG))
    return np.stack([chosen, best[chosen]], axis=1)


def _likeness(first: Look, second: Look, matrix: NDArray[np.float64]) -> Likeness | None:
    """Lays the first picture over the second and correlates them window by window."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _LARGEST_SCALE < scale < _LARGEST_SCALE:
        return None
    height_px, width_px = second.grey.shape
    source: Any = first.grey
    if scale < 0.5:
        # Warping does not average what falls together.
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / scale)
    laid: Any = cv2.warpAffine(source, matrix, (width_px, height_px), flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.full_like(first.grey, 255), matrix, (width_px, height_px)) > 250
    share_of_second = float(covered.mean())
    share_of_first = share_of_second * second.grey.size / (first.grey.size * scale**2)
    correlation = _local_correlation(laid, second.grey, covered)
    work_scales = [look.grey.shape[1] / look.width_px for look in (first, second)]
    return Likeness(correlation, min(share_of_first, 1.0), share_of_second, scale * work_scales[0] / work_scales[1])


def _local_correlation(first: NDArray[np.uint8], second: NDArray[np.uint8], covered: NDArray[np.bool_]) -> float:
    """Median over the textured windows that lie wholly in the covered part; 0 where there are next to none."""
    one, other = (cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.5) for picture in (first, second))
    window = (_WINDOW_PX, _WINDOW_PX)
    one_mean, other_mean = cv2.blur(one, window), cv2.blur(other, window)
    one_variance = cv2.blur(one * one, window) - one_mean**2
    other_variance = cv2.blur(other * other, window) - other_mean**2
    covariance = cv2.blur(one * other, window) - one_mean * other_mean
    edge_px = _WINDOW_PX + 2
    inner = cv2.erode(covered.astype(np.uint8), np.ones((edge_px, edge_px), np.uint8)) > 0
    textured = inner & (np.maximum(one_variance, other_variance) > _TEXTURE_VARIANCE)
    if np.count_nonzero(textured) < _FEWEST_TEXTURED_PX:
        return 0.0
    product = np.maximum(one_variance[textured], 0) * np.maximum(other_variance[textured], 0)
    return float(np.median(covariance[textured] / np.sqrt(product + 1)))
