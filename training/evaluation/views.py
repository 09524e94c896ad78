"""What reports show of scores, logs and pictures, made ready: rows, charts, inlined pictures.

Nothing is laid out here, and nothing written.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup
from PIL import Image as PillowImage

from denoised.quality import PSNR_CEILING_DB, Interval
from training.errors import DataError
from training.evaluation.charts import Series, line_chart, scatter_chart
from training.evaluation.estimates import NoReference
from training.evaluation.scores import (
    NETWORK,
    NOISY,
    Evaluation,
    Figure,
    Score,
    detail_of,
    headline_level,
    psnr_of,
    ssim_of,
)
from training.run.directory import RunDir
from training.run.log import read_log

_WORST_COUNT: Final = 5
# One, two and three standard deviations of the prior.
PRIOR_RINGS: Final = (1.0, 2.0, 3.0)
_JPEG_QUALITY: Final = 90
_PLUS_MINUS: Final = "\u2009\u00b1\u2009"

# Titles, units and lines of the training curves; only what a run's log holds is drawn.
_CURVES: Final = (
    ("Loss", "loss", {"loss": "training", "held_out_loss": "held out"}, True),
    ("Held-out PSNR", "dB", {"held_out_psnr_db": "held out"}, False),
    (
        "Energy",
        "nats per image",
        {
            "held_out_reconstruction_nats": "reconstruction",
            "held_out_compression_nats": "compression",
        },
        False,
    ),
    (
        "Energy as a code length",
        "bits per pixel",
        {
            "held_out_reconstruction_bits_per_pixel": "reconstruction",
            "held_out_energy_bits_per_pixel": "both terms",
        },
        False,
    ),
    ("Active numbers of the code", "count", {"held_out_active_units": "active"}, False),
    ("Learning rate", "learning rate", {"learning_rate": "learning rate"}, False),
    ("Speed", "samples per second", {"samples_per_s": "training"}, False),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A mean as text, and half its interval."""

    mean: str
    half: str = ""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One line of the table."""

    level: str
    method: str
    is_network: bool
    is_first: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An inlined picture with its words."""

    uri: str
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its title."""

    title: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """Everything that the page shows of one evaluation."""

    evaluation: Evaluation
    image_count: int
    charts: tuple[Chart, ...]
    columns: tuple[str, ...]
    rows: tuple[MethodRow, ...]
    worst_level: str
    worst: tuple[tuple[Score, float | None], ...]
    pictures: tuple[Picture, ...]
    plane: Chart | None


@dataclass(frozen=True, slots=True)
class EstimatesView:
    """Everything that the page shows of estimates without clean truth."""

    estimates: NoReference
    rows: tuple[tuple[str, Cell, int], ...]
    pictures: tuple[Picture, ...]


def evaluation_view(run_dir: RunDir, evaluation: Evaluation) -> EvaluationView:
    """An evaluation made ready to show."""
    columns, rows = method_table(evaluation)
    worst_level = headline_level(evaluation.levels())
    worst = evaluation.worst(worst_level, _WORST_COUNT)
    noisy = {score.file: score.psnr_db for score in evaluation.at(worst_level, NOISY)}
    plane = None
    if evaluation.plane:
        has_prior = run_dir.load_config().network.kind == "vae"
        points = [(point.x, point.y) for point in evaluation.plane]
        labels = [point.label for point in evaluation.plane]
        svg = scatter_chart(
            points,
            labels,
            x_label="first number of the code",
            y_label="second",
            side_px=520,
            rings=PRIOR_RINGS if has_prior else (),
        )
        plane = Chart("The plane of codes", svg)
    return EvaluationView(
        evaluation=evaluation,
        image_count=len(evaluation.files()),
        charts=level_charts(evaluation),
        columns=columns,
        rows=rows,
        worst_level=_level_text(evaluation, worst_level),
        worst=tuple((score, noisy.get(score.file)) for score in worst),
        pictures=_pictures(run_dir, evaluation.figures),
        plane=plane,
    )


def method_table(evaluation: Evaluation) -> tuple[tuple[str, ...], tuple[MethodRow, ...]]:
    """(columns, rows): every method at every level, with intervals; columns that nothing fills are left out."""
    figures = (
        ("PSNR, dB", psnr_of, ".2f"),
        ("SSIM", ssim_of, ".3f"),
        ("Detail kept", detail_of, ".2f"),
        ("Noise found", lambda score: score.sigma_found, ".1f"),
    )
    present = [figure for figure in figures if any(figure[1](score) is not None for score in evaluation.scores)]
    rows = []
    for level in evaluation.levels():
        for number, method in enumerate(evaluation.methods()):
            cells = [cell(evaluation.interval(level, value, method), form) for _, value, form in present]
            name = "this network" if method == NETWORK else "noisy input" if method == NOISY else method
            rows.append(MethodRow(_level_text(evaluation, level), name, method == NETWORK, number == 0, tuple(cells)))
    return tuple(name for name, _, _ in present), tuple(rows)


def level_charts(evaluation: Evaluation) -> tuple[Chart, ...]:
    """PSNR and detail over the levels, where there are several."""
    levels = evaluation.levels()
    if len(levels) < 2:
        return ()
    label = "noise, sigma in 8-bit levels" if evaluation.protocol == "gaussian" else "severity of the run's own noise"
    charts = []
    for title, value, unit in (("PSNR", psnr_of, "PSNR, dB"), ("Detail kept", detail_of, "share of fine detail")):
        lines = []
        for method in evaluation.methods():
            found = [(level, evaluation.interval(level, value, method)) for level in levels]
            # What leaves a clean image as it is has no finite PSNR there.
            points = [(level, i) for level, i in found if i is not None and i.mean < PSNR_CEILING_DB - 1]
            if points:
                lines.append(_series(method, points))
        if lines:
            charts.append(Chart(title, line_chart(lines, x_label=label, y_label=unit, x_marks=levels)))
    return tuple(charts)


def training_curves(run_dir: RunDir) -> tuple[Chart, ...]:
    """What the run's log holds, as charts."""
    records = read_log(run_dir.log_path)
    charts = []
    for title, unit, names, may_be_log in _CURVES:
        lines = []
        for key, name in names.items():
            points = [(record["step"], record[key]) for record in records if key in record]
            if points:
                xs, ys = zip(*points, strict=True)
                lines.append(Series(name, xs, ys, is_main=key == list(names)[-1]))
        if lines:
            is_log = may_be_log and all(y > 0 for line in lines for y in line.ys)
            charts.append(Chart(title, line_chart(lines, x_label="step", y_label=unit, is_log=is_log)))
    return tuple(charts)


def cell(interval: Interval | None, form: str) -> Cell:
    """A mean and half its interval as texts."""
    if interval is None:
        return Cell("\u2013")
    half = "" if interval.high is None else f"{_PLUS_MINUS}{interval.high - interval.mean:{form}}"
    return Cell(f"{interval.mean:{form}}", half)


def sheet_uri(png: bytes) -> str:
    """A PNG file as something that a page can show by itself: as JPEG where that is smaller, as sheets of noise are."""
    buffer = io.BytesIO()
    with PillowImage.open(io.BytesIO(png)) as sheet:
        # Colours at full resolution: noise is what is looked at.
        sheet.convert("RGB").save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    content, kind = min(((png, "image/png"), (buffer.getvalue(), "image/jpeg")), key=lambda found: len(found[0]))
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def estimates_view(run_dir: RunDir, estimates: NoReference) -> EstimatesView:
    rows = [
        (name, cell(interval, form), interval.count)
        for name, interval, form in estimates.rows()
        if interval is not None
    ]
    return EstimatesView(estimates, tuple(rows), _pictures(run_dir, estimates.figures))


def _pictures(run_dir: RunDir, figures: Sequence[Figure]) -> tuple[Picture, ...]:
    pictures = []
    for figure in figures:
        path = run_dir.samples_path / figure.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); evaluate again to draw it") from error
        pictures.append(Picture(sheet_uri(content), figure.title, figure.caption))
    return tuple(pictures)


def _series(method: str, points: Sequence[tuple[float, Interval]]) -> Series:
    is_main = method == NETWORK
    band = [(i.low, i.high) for _, i in points if i.low is not None and i.high is not None] if is_main else []
    return Series(
        "this network" if is_main else "noisy input" if method == NOISY else method,
        [level for level, _ in points],
        [interval.mean for _, interval in points],
        band if len(band) == len(points) else None,
        is_main=is_main,
    )


def _level_text(evaluation: Evaluation, level: float) -> str:
    name = evaluation.level_name(level)
    return f"\u03c3 {name}" if evaluation.protocol == "gaussian" else name
