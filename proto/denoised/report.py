"""One HTML page that shows what denoising did: a table, and for each image a slider between before and after.

The page is a single file that needs nothing else: images are inlined, style and script lie beside this module.
It decides how things look; measuring is ``denoised.quality``'s.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from denoised._files import write_whole

Picture = NDArray[np.uint8]

# Larger pictures are shown by their middle: scaling them down would average the noise away that is to be judged.
_LONGEST_SIDE_PX: Final = 1600

_DASH: Final = "&ndash;"
_TIMES: Final = "&times;"
_TO: Final = "&rarr;"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known about one image; None is left out. Noise levels are in 8-bit levels (0..255)."""

    sigma_added: float | None = None
    sigma_found: float | None = None
    psnr_before_db: float | None = None
    psnr_after_db: float | None = None
    ssim_before: float | None = None
    ssim_after: float | None = None
    total_ms: float | None = None
    shared_request_count: int | None = None
    shared_client_count: int | None = None

    @property
    def gain_db(self) -> float | None:
        if self.psnr_before_db is None or self.psnr_after_db is None:
            return None
        return self.psnr_after_db - self.psnr_before_db


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """One image of the page.

    Attributes:
        before, after: (H, W), (H, W, 3) or (H, W, 4) of one shape.
        original: the clean picture of the same shape, when there is one.
        note: one line under the name, such as the file format.
    """

    name: str
    before: Picture
    after: Picture
    original: Picture | None = None
    figures: Figures = field(default_factory=Figures)
    note: str = ""

    def __post_init__(self) -> None:
        for role, picture in (("after", self.after), ("original", self.original)):
            if picture is not None and picture.shape != self.before.shape:
                raise ValueError(f"{self.name}: before has shape {self.before.shape}, {role} {picture.shape}")
        if self.before.ndim not in (2, 3) or self.before.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(
                f"{self.name}: pictures have shape {self.before.shape}; a page shows (H, W), (H, W, 3) or (H, W, 4)"
            )


@dataclass(frozen=True, slots=True)
class Failure:
    """An image of which there is nothing to show, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    value: Callable[[Figures], float | None]
    form: str
    kind: str = ""


_COLUMNS: Final = (
    _Column("Noise added", lambda figures: figures.sigma_added, "{:.1f}"),
    _Column("Noise found", lambda figures: figures.sigma_found, "{:.1f}"),
    _Column("PSNR before", lambda figures: figures.psnr_before_db, "{:.2f}"),
    _Column("PSNR after", lambda figures: figures.psnr_after_db, "{:.2f}"),
    _Column("Gain, dB", lambda figures: figures.gain_db, "{:+.2f}", "gain"),
    _Column("SSIM before", lambda figures: figures.ssim_before, "{:.3f}"),
    _Column("SSIM after", lambda figures: figures.ssim_after, "{:.3f}"),
    _Column("Time, ms", lambda figures: figures.total_ms, "{:.0f}"),
    _Column("Requests in batch", lambda figures: figures.shared_request_count, "{:d}"),
    _Column("Clients in batch", lambda figures: figures.shared_client_count, "{:d}"),
)


def write_report(
    path: Path,
    entries: Sequence[ReportEntry],
    *,
    failures: Sequence[Failure] = (),
    title: str = "Before and after",
    lead: str = "",
) -> None:
    """Writes the page.

    Args:
        path: where to; folders on the way are made, an older page is replaced as a whole.
        entries: the images, in the order of the page.
        failures: images without pictures, listed under the table.
        title: heading of the page.
        lead: a sentence or two under it.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{_asset("report.css")}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
</header>
<main>
{_table(entries)}
{_failures(failures)}<div class="cards">
{"".join(_card(number, entry) for number, entry in enumerate(entries))}</div>
</main>
<footer>Noise is a standard deviation in 8-bit levels, 0 to 255. PSNR in dB and SSIM are against the clean original;
higher is better.</footer>
<script>
{_asset("report.js")}</script>
</body>
</html>
"""
    write_whole(path, page.encode())


def _table(entries: Sequence[ReportEntry]) -> str:
    columns = [column for column in _COLUMNS if any(column.value(entry.figures) is not None for entry in entries)]
    headings = ["Image", "Pixels", *(column.heading for column in columns)]
    head = "".join(f'<th scope="col"><button type="button">{heading}</button></th>' for heading in headings)
    rows = []
    for number, entry in enumerate(entries):
        height_px, width_px = entry.before.shape[:2]
        cells = [
            f'<th scope="row"><a href="#image-{number}">{escape(entry.name)}</a></th>',
            f'<td data-value="{width_px * height_px}">{_size(entry)}</td>',
            *(_cell(column, entry.figures) for column in columns),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    return (
        f'<div class="summary"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody></table></div>'
    )


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    rows = "".join(f"<li><b>{escape(failure.name)}</b> {escape(failure.why)}</li>\n" for failure in failures)
    return f'<section class="failures"><h2>{_count(len(failures), "image")} failed</h2><ul>\n{rows}</ul></section>\n'


def _cell(column: _Column, figures: Figures) -> str:
    value = column.value(figures)
    kind = f' class="{column.kind}"' if column.kind else ""
    if value is None:
        return f'<td{kind} data-value="-1">{_DASH}</td>'
    return f'<td{kind} data-value="{value}">{column.form.format(value)}</td>'


def _card(number: int, entry: ReportEntry) -> str:
    height_px, width_px = entry.before.shape[:2]
    window = _middle(height_px, width_px)
    notes = [escape(entry.note)] if entry.note else []
    if max(height_px, width_px) > _LONGEST_SIDE_PX:
        notes.append(f"the middle of {_size(entry)} pixels")
    notes += _shared(entry.figures)
    shown = entry.before[window]
    views = [("slider", "Slider"), ("removed", f"Removed {_TIMES}8")]
    original = ""
    if entry.original is not None:
        views.append(("left", f"Error left {_TIMES}8"))
        original = f'<img class="original" hidden alt="" src="{_data_uri(entry.original[window])}">'
    zooms = [("1", "Fit"), *((zoom, f"{zoom}{_TIMES}") for zoom in ("2", "4", "8"))]
    name = escape(entry.name)
    return f"""<article class="card" id="image-{number}">
<div class="title"><h2>{name}</h2><p>{"; ".join(notes)}</p></div>
<dl class="figures">{_figures(entry.figures)}</dl>
<div class="controls">
{_choice(f"view-{number}", "View", views)}
{_choice(f"zoom-{number}", "Zoom", zooms)}
</div>
<div class="well">
<div class="stage" data-view="slider" style="--ratio: {shown.shape[1]} / {shown.shape[0]}" tabindex="0" role="group"
 aria-label="{name}: when zoomed in, arrow keys move the picture">
<div class="layer after"><img alt="{name}, denoised" src="{_data_uri(entry.after[window])}" draggable="false">
<span class="tag">after</span></div>
<div class="layer before"><img alt="{name}, noisy" src="{_data_uri(shown)}" draggable="false">
<span class="tag">before</span></div>
<div class="layer difference"><canvas></canvas></div>
<div class="handle"></div>
{original}</div>
</div>
<div class="under">
<label class="out-of-sight" for="cut-{number}">{name}: how much of the noisy picture is shown, in percent</label>
<input id="cut-{number}" type="range" min="0" max="100" step="0.5" value="50">
<p class="caption"></p>
</div>
</article>
"""


def _figures(figures: Figures) -> str:
    """What the card says: pairs of values as "before to after"."""
    items = [
        (f"Noise added {_TO} found", _pair(figures.sigma_added, figures.sigma_found, "{:.1f}"), ""),
        ("PSNR, dB", _pair(figures.psnr_before_db, figures.psnr_after_db, "{:.2f}"), _gain(figures.gain_db)),
        ("SSIM", _pair(figures.ssim_before, figures.ssim_after, "{:.3f}"), ""),
        ("Time", None if figures.total_ms is None else f"{figures.total_ms:.0f} ms", ""),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}{extra}</dd></div>" for name, value, extra in items if value)


def _pair(before: float | None, after: float | None, form: str) -> str | None:
    if before is None:
        return None if after is None else form.format(after)
    return f"{form.format(before)} {_TO} {_DASH if after is None else form.format(after)}"


def _gain(gain_db: float | None) -> str:
    return "" if gain_db is None else f" <b>{gain_db:+.2f}</b>"


def _shared(figures: Figures) -> list[str]:
    requests, clients = figures.shared_request_count, figures.shared_client_count
    if not requests or not clients or requests == 1:
        return []
    return [f"shared a batch: {_count(requests, 'request')} of {_count(clients, 'client')}"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _choice(name: str, legend: str, options: Sequence[tuple[str, str]]) -> str:
    labels = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" if number == 0 else ""}>'
        f"<span>{text}</span></label>"
        for number, (value, text) in enumerate(options)
    )
    return f'<fieldset><legend class="out-of-sight">{legend}</legend>{labels}</fieldset>'


def _size(entry: ReportEntry) -> str:
    return f"{entry.before.shape[1]} {_TIMES} {entry.before.shape[0]}"


def _middle(height_px: int, width_px: int) -> tuple[slice, slice]:
    top, left = (max(0, (side - _LONGEST_SIDE_PX) // 2) for side in (height_px, width_px))
    return slice(top, top + _LONGEST_SIDE_PX), slice(left, left + _LONGEST_SIDE_PX)


def _data_uri(picture: Picture) -> str:
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _asset(name: str) -> str:
    return (files("denoised") / name).read_text(encoding="utf-8")
