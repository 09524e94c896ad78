"""How far a network looks, measured on its file: the halo that tiles need, and the reach of one input pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.contract import TilingError
from denoised.noise import NoiseSpec, keyed_rng
from training.data.manifest import Supervision
from training.data.pack import Pack
from training.errors import ExportError
from training.export.gate import image_of, rounded
from training.export.pictures import noisy_pictures

# Images of up to 512 pixels are one unit of about their own size.
_BASE_EDGES_PX: Final = (64, 96, 128, 192, 256, 320, 384, 448, 512)
# Beyond: sides of images of 1, 12, 100 and 4 megapixels, and how many tiles shall cover them without a rest. What an
# edge costs beside that is time: units run to their end, and whoever comes meanwhile waits (docs/adr/0017).
_SPLIT_SIDES: Final = ((1024, 2), (3000, 5), (10_000, 16), (2048, 3))
_LARGEST_HALO_PX: Final = 128
_SEAM_SEVERITIES: Final = (0.1, 0.5, 0.9)
_SEAM_PICTURE_COUNT: Final = 24
# Leaves something to compare within the largest halo.
_LEAST_SEAM_SIDE_PX: Final = 384
_MAX_LEVELS: Final = 1
_MAX_DIFFERING_SHARE: Final = 0.001
_REACH_SIDES_PX: Final = (256, 512, 1024)
_REACH_KEY: Final = 2**33 + 2


@dataclass(frozen=True, slots=True)
class Extent:
    """What units a network takes and how far it looks, in the terms of the contract."""

    unit_edges_px: tuple[int, ...]
    halo_px: int
    receptive_field_px: int
    tiling: TilingError


def measure(
    session: ort.InferenceSession,
    pack: Pack,
    noise: NoiseSpec,
    *,
    supervision: Supervision,
    channels: int,
    multiple_px: int,
    fixed_side_px: int | None,
) -> Extent:
    """On noisy held-out pictures of a pack; nothing is left to measure where only one size fits.

    Raises:
        ExportError: tiles cannot stand for the whole.
    """
    if fixed_side_px is not None:
        return Extent((fixed_side_px,), 0, 0, TilingError(0, 0.0))
    least_px, most_px = (
        -(-side_px // multiple_px) * multiple_px
        for side_px in (_LEAST_SEAM_SIDE_PX, _BASE_EDGES_PX[-1] + 2 * _LARGEST_HALO_PX)
    )
    pictures = noisy_pictures(
        pack,
        noise,
        supervision=supervision,
        held_out=True,
        count=_SEAM_PICTURE_COUNT,
        severities=_SEAM_SEVERITIES,
        multiple_px=multiple_px,
        least_px=least_px,
        most_px=most_px,
    )
    images = [picture.noisy for picture in pictures]
    halo_px, tiling = measure_halo(session, images, multiple_px=multiple_px)
    return Extent(
        unit_edges_px=unit_edges_px(halo_px=halo_px, multiple_px=multiple_px),
        halo_px=halo_px,
        receptive_field_px=measure_receptive_field(session, channels=channels, multiple_px=multiple_px),
        tiling=tiling,
    )


def unit_edges_px(*, halo_px: int, multiple_px: int) -> tuple[int, ...]:
    """The sides that units may have, ascending: those of small images, and those that cut large ones with little rest.

    Args:
        halo_px: what tiles read beyond their own, 0 or more; a multiple of ``multiple_px``.
        multiple_px: what every side is a multiple of.
    """
    whole = {edge for edge in _BASE_EDGES_PX if edge % multiple_px == 0}
    # n tiles that overlap by two halos each.
    shared = {-(-(side + 2 * halo_px * (n - 1)) // (n * multiple_px)) * multiple_px for side, n in _SPLIT_SIDES}
    return tuple(sorted(whole | shared))


def measure_halo(
    session: ort.InferenceSession, images: Sequence[NDArray[np.float32]], *, multiple_px: int
) -> tuple[int, TilingError]:
    """The smallest halo at which a tile's own pixels are those of the whole image, and what difference is left.

    Each image's centre is computed once inside the whole image and once as a tile with four inner sides, both
    rounded to 8 bit. At most one level, on at most 0.1 % of the values, may differ.

    Raises:
        ExportError: no halo up to 128 pixels is enough: the network has some global operation.
    """
    differences = [_seam_difference(session, image, multiple_px=multiple_px) for image in images]
    error = TilingError(255, 1.0)
    for halo_px in range(multiple_px, _LARGEST_HALO_PX + 1, multiple_px):
        inner = [d[:, :, halo_px:-halo_px, halo_px:-halo_px] for d in differences]
        value_count = sum(d.size for d in inner)
        if value_count == 0:
            break
        error = TilingError(
            max_levels=max(int(d.max(initial=0)) for d in inner),
            differing_share=sum(int(np.count_nonzero(d)) for d in inner) / value_count,
        )
        if error.max_levels <= _MAX_LEVELS and error.differing_share <= _MAX_DIFFERING_SHARE:
            return halo_px, error
    raise ExportError(
        f"tiles differ from the whole image by {error.max_levels} levels on {error.differing_share:.2%} of the values "
        f"even with the largest halo that was tried; a servable network has no global operation, and the images that "
        f"it is measured on must be large enough"
    )


def measure_receptive_field(session: ort.InferenceSession, *, channels: int, multiple_px: int) -> int:
    """Side of the square of input pixels that an output pixel was seen to depend on; 0 where it is the whole input.

    A line of pixels is changed in the middle of a picture of noise; every output that differs in any bit depends on
    it. Lines are tried at every place within the size multiple, because strides make these see different distances.
    """
    for least_px in _REACH_SIDES_PX:
        side_px = -(-least_px // multiple_px) * multiple_px
        picture = keyed_rng(_REACH_KEY, side_px).random((1, channels, side_px, side_px), dtype=np.float32)
        before = image_of(session, picture)
        spans = [
            _changed_span(session, picture, before, axis=axis, line=side_px // 2 + offset)
            for axis in (2, 3)
            for offset in range(multiple_px)
        ]
        if all(first > 0 and last < side_px - 1 for _, first, last in spans):
            behind = max(line - first for line, first, _ in spans)
            ahead = max(last - line for line, _, last in spans)
            return behind + ahead + 1
    return 0


def _changed_span(
    session: ort.InferenceSession,
    picture: NDArray[np.float32],
    before: NDArray[np.float32],
    *,
    axis: int,
    line: int,
) -> tuple[int, int, int]:
    """(line, first, last): the outputs along the axis that change with the line; the line itself where none does."""
    changed = picture.copy()
    place: list[slice | int] = [slice(None)] * 4
    place[axis] = line
    changed[tuple(place)] = 1 - changed[tuple(place)]
    others = tuple(other for other in range(4) if other != axis)
    differing = np.flatnonzero((image_of(session, changed) != before).any(axis=others))
    return (line, int(differing[0]), int(differing[-1])) if differing.size else (line, line, line)


def _seam_difference(
    session: ort.InferenceSession, image: NDArray[np.float32], *, multiple_px: int
) -> NDArray[np.float32]:
    """Levels by which a tile from an image's middle differs from the same place in the whole image."""
    whole = rounded(image_of(session, image))
    sides = image.shape[2:]
    edges = [min(_BASE_EDGES_PX[-1], side - 2 * multiple_px) for side in sides]
    starts = [(side - edge) // 2 // multiple_px * multiple_px for side, edge in zip(sides, edges, strict=True)]
    rows, columns = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
    tile = rounded(image_of(session, image[:, :, rows, columns]))
    difference: NDArray[np.float32] = np.abs(tile - whole[:, :, rows, columns])
    return difference
