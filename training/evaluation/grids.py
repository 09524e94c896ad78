"""Sheets of pictures with captions, as one PNG: samples with their residual, reconstructions, tiles from a prior.

Small pictures are enlarged by whole factors without smoothing, large ones are shown by a crop: what is to be judged,
noise and detail, survives neither averaging nor interpolation. It draws what it is given and measures nothing.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from denoised._files import write_whole

Picture = NDArray[np.float32]

CELL_PX: Final = 192
RESIDUAL_FACTOR: Final = 8

_GAP_PX: Final = 8
_MARGIN_PX: Final = 14
_HEAD_PX: Final = 28
_CAPTION_PX: Final = 24
_FONT_PX: Final = 14
# Readable on a light page and on a dark one: the sheet brings its own ground.
_GROUND: Final = (250, 250, 248)
_INK: Final = (29, 31, 33)
_MUTED: Final = (102, 106, 110)


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures side by side with one line under them; (H, W, C) float32 in 0..1, each of any size."""

    pictures: Sequence[Picture]
    caption: str


def residual_picture(output: Picture, reference: Picture) -> Picture:
    """The difference, eight times as strong, around grey."""
    difference: Picture = np.clip(0.5 + RESIDUAL_FACTOR * (output - reference), 0.0, 1.0).astype(np.float32)
    return difference


def crop_window(
    height_px: int, width_px: int, score: NDArray[np.floating] | None = None, *, side_px: int = CELL_PX
) -> tuple[slice, slice]:
    """The part of an image that a cell shows: its middle, or where ``score`` (H, W) is highest on average."""
    tall_px, wide_px = min(height_px, side_px), min(width_px, side_px)
    top, left = (height_px - tall_px) // 2, (width_px - wide_px) // 2
    if score is not None and (height_px > tall_px or width_px > wide_px):
        sums = np.pad(score.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        step = 16
        tops, lefts = (range(0, side - cell + 1, step) for side, cell in ((height_px, tall_px), (width_px, wide_px)))
        _, top, left = max(
            (sums[t + tall_px, x + wide_px] - sums[t, x + wide_px] - sums[t + tall_px, x] + sums[t, x], t, x)
            for t in tops
            for x in lefts
        )
    return slice(top, top + tall_px), slice(left, left + wide_px)


def draw_sheet(
    heads: Sequence[str], rows: Sequence[Row], *, cell_px: int = CELL_PX, gap_px: int = _GAP_PX
) -> PillowImage.Image:
    """A sheet with a heading for each column and a caption under each row."""
    column_count = max(len(row.pictures) for row in rows)
    pictures = [[_to_cell(picture, cell_px) for picture in row.pictures] for row in rows]
    width_px = 2 * _MARGIN_PX + column_count * cell_px + (column_count - 1) * gap_px
    head_px = _HEAD_PX if heads else 0
    heights_px = [
        max(cell.height for cell in row) + (_CAPTION_PX if rows[i].caption else 0) + gap_px
        for i, row in enumerate(pictures)
    ]
    sheet = PillowImage.new("RGB", (width_px, 2 * _MARGIN_PX + head_px + sum(heights_px)), _GROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PX)
    for column, head in enumerate(heads):
        left = _MARGIN_PX + column * (cell_px + gap_px)
        draw.text((left, _MARGIN_PX), _fitted(head, cell_px, font), fill=_INK, font=font)
    top = _MARGIN_PX + head_px
    for row, cells, height_px in zip(rows, pictures, heights_px, strict=True):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_MARGIN_PX + column * (cell_px + gap_px), top))
        if row.caption:
            at = (_MARGIN_PX, top + height_px - _CAPTION_PX - gap_px + 4)
            draw.text(at, _fitted(row.caption, width_px - 2 * _MARGIN_PX, font), fill=_MUTED, font=font)
        top += height_px
    return sheet


def draw_tiles(pictures: Sequence[Picture], *, columns: int, cell_px: int, gap_px: int = _GAP_PX) -> PillowImage.Image:
    """Small pictures of one size without captions, row by row; enlarged by whole factors, at most to the cell."""
    side_px = max(pictures[0].shape[:2])
    fitted_px = max(1, cell_px // side_px) * min(side_px, cell_px)
    blocks = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    return draw_sheet([], [Row(block, "") for block in blocks], cell_px=fitted_px, gap_px=gap_px)


def to_png(sheet: PillowImage.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_png(sheet: PillowImage.Image, path: Path) -> None:
    """Writes the file whole, making folders on the way."""
    write_whole(path, to_png(sheet))


def _to_cell(picture: Picture, cell_px: int) -> PillowImage.Image:
    """8-bit RGB of at most one cell: enlarged by a whole factor, or cut to its middle."""
    height_px, width_px = picture.shape[:2]
    top, left = max(0, (height_px - cell_px) // 2), max(0, (width_px - cell_px) // 2)
    cut = picture[top : top + cell_px, left : left + cell_px]
    # What is no number is shown black.
    levels = np.rint(np.clip(np.nan_to_num(cut), 0.0, 1.0) * 255.0).astype(np.uint8)
    factor = max(1, min(cell_px // levels.shape[0], cell_px // levels.shape[1]))
    levels = np.broadcast_to(levels, (*levels.shape[:2], 3)).repeat(factor, axis=0).repeat(factor, axis=1)
    return PillowImage.fromarray(np.ascontiguousarray(levels))


def _fitted(text: str, width_px: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, cut at its front where it is too long: file names differ at their ends."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"...{text}") > width_px:
        text = text[1:]
    return f"...{text}"
