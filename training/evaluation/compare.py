"""Two runs side by side: what differs in their configs, how they trained, and what that made of the same images.

Scores come from both runs' own evaluations; differences are taken image by image, so that their intervals tell
whether one network is better rather than whether images differ. Only the crops are computed here.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from denoised._files import write_whole
from denoised.quality import Interval, psnr_db
from training.config import RunConfig
from training.errors import DataError
from training.evaluation.changes import LevelChange, paired_changes
from training.evaluation.charts import Series, line_chart
from training.evaluation.conditions import Conditions
from training.evaluation.grids import Row, crop_window, draw_sheet, to_png
from training.evaluation.inference import apply_network
from training.evaluation.report import render
from training.evaluation.scores import Evaluation, psnr_of
from training.evaluation.store import load_evaluations
from training.evaluation.subjects import ImageSet
from training.evaluation.views import Chart, Picture, sheet_uri
from training.networks.base import Network
from training.run.differences import differences
from training.run.directory import RunDir
from training.run.log import read_log

_CROP_COUNT: Final = 5
_CURVES: Final = (("Loss", "loss", True), ("Held-out PSNR", "held_out_psnr_db", False))


@dataclass(frozen=True, slots=True)
class SetComparison:
    """Both runs on one set of images.

    Attributes:
        before, after: their evaluations.
        changes: from the first to the second, paired by image.
    """

    before: Evaluation
    after: Evaluation
    changes: tuple[LevelChange, ...]

    def table(self) -> str:
        """For a terminal: a row for each level."""
        lines = [
            f"{self.after.stem}, {len(self.after.files())} images, change from the first run to the second",
            f"{'noise':>14} {'first dB':>9} {'second dB':>9} {'change dB':>10} {'95 % interval':>18} {'detail':>8}",
        ]
        for change in self.changes:
            detail = "" if change.detail is None else f"{change.detail.mean:+.3f}"
            lines.append(
                f"{change.name:>14} {self.before.mean(change.level, psnr_of):9.2f} "
                f"{self.after.mean(change.level, psnr_of):9.2f} {change.psnr_db.mean:+10.3f} "
                f"{span(change.psnr_db):>18} {detail:>8}"
            )
        return "\n".join(lines)


def comparable_sets(first: RunDir, second: RunDir) -> tuple[SetComparison, ...]:
    """All sets that both runs were evaluated on in the same way.

    Raises:
        DataError: there is none, or an evaluation is damaged.
    """
    others = {evaluation.stem: evaluation for evaluation in load_evaluations(second)}
    pairs = [(own, others[own.stem]) for own in load_evaluations(first) if own.stem in others]
    if not pairs:
        raise DataError(
            f"{first.path} and {second.path} share no evaluation; run evaluate for both on the same images with the "
            "same options"
        )
    return tuple(SetComparison(before, after, paired_changes(before, after)) for before, after in pairs)


def config_differences(first: RunConfig, second: RunConfig) -> list[tuple[str, str, str]]:
    """(key, first, second) for every key whose values differ, dotted as ``--set`` takes them."""
    return [(key, _text(one), _text(other)) for key, one, other in differences(first, second)]


def crop_sheet(
    first: Network, second: Network, images: ImageSet, conditions: Conditions, names: tuple[str, str]
) -> Picture:
    """Crops of the images on which the two differ most, at the noisiest level but one half of the range."""
    level = sorted(conditions.levels)[len(conditions.levels) // 2]
    found: list[tuple[float, Row]] = []
    for subject in images:
        noisy = conditions.noisy(subject, level)
        one, other = (subject.delivered(apply_network(network, noisy).image) for network in (first, second))
        figures = [psnr_db(output, subject.clean, value_range=1.0) for output in (one, other)]
        window = crop_window(noisy.shape[0], noisy.shape[1], abs(one - other).mean(axis=2))
        pictures = tuple(picture[window].copy() for picture in (noisy, one, other, subject.clean))
        caption = f"{subject.file}: {figures[0]:.2f} and {figures[1]:.2f} dB, {figures[1] - figures[0]:+.2f}"
        found.append((abs(figures[1] - figures[0]), Row(pictures, caption)))
        found.sort(key=lambda entry: -entry[0])
        del found[_CROP_COUNT:]
    sheet = draw_sheet(("noisy", names[0], names[1], "clean"), [row for _, row in found])
    return Picture(
        sheet_uri(to_png(sheet)),
        "The same images",
        f"those on which PSNR differs most at {level:g}; the part where the two answers differ most",
    )


def write_comparison(
    path: Path,
    first: RunDir,
    second: RunDir,
    sets: tuple[SetComparison, ...],
    pictures: tuple[Picture, ...] = (),
) -> None:
    """Writes the page."""
    configs = first.load_config(), second.load_config()
    names = run_names(first, second)
    page = render(
        "compare.html.jinja",
        names=names,
        differences=config_differences(*configs),
        curves=_curves(first, second, names),
        sets=[(one, _level_chart(one, names), [_row(one, change) for change in one.changes]) for one in sets],
        pictures=pictures,
    )
    write_whole(path, page.encode())


def run_names(first: RunDir, second: RunDir) -> tuple[str, str]:
    """What pages call the two; the directories' names where the runs have one name."""
    names = first.load_config().name, second.load_config().name
    if names[0] == names[1]:
        names = first.path.resolve().name, second.path.resolve().name
    return names if names[0] != names[1] else (f"{names[0]} (first)", f"{names[1]} (second)")


def span(interval: Interval) -> str:
    """The ends of an interval of differences."""
    if interval.low is None or interval.high is None:
        return "one image"
    return f"{interval.low:+.3f} to {interval.high:+.3f}"


def _row(one: SetComparison, change: LevelChange) -> dict[str, Any]:
    low, high = change.psnr_db.low, change.psnr_db.high
    is_clear = low is not None and high is not None and (low > 0 or high < 0)
    return {
        "name": change.name,
        "before": f"{one.before.mean(change.level, psnr_of):.2f}",
        "after": f"{one.after.mean(change.level, psnr_of):.2f}",
        "change": f"{change.psnr_db.mean:+.3f}",
        "kind": ("gain" if change.psnr_db.mean > 0 else "loss") if is_clear else "",
        "span": span(change.psnr_db),
        "ssim": "\u2013" if change.ssim is None else f"{change.ssim.mean:+.4f}",
        "detail": "\u2013" if change.detail is None else f"{change.detail.mean:+.3f}",
    }


def _level_chart(one: SetComparison, names: tuple[str, str]) -> Chart | None:
    if len(one.changes) < 2:
        return None
    levels = [change.level for change in one.changes]
    bands = [(c.psnr_db.low, c.psnr_db.high) for c in one.changes]
    band = [(low, high) for low, high in bands if low is not None and high is not None]
    line = Series(
        "change",
        levels,
        [change.psnr_db.mean for change in one.changes],
        band if len(band) == len(levels) else None,
        is_main=True,
    )
    zero = Series("no change", [levels[0], levels[-1]], [0.0, 0.0])
    svg = line_chart([zero, line], x_label="noise level", y_label="change of PSNR, dB", x_marks=levels)
    return Chart(f"From {names[0]} to {names[1]}", svg)


def _curves(first: RunDir, second: RunDir, names: tuple[str, str]) -> tuple[Chart, ...]:
    charts = []
    records = [read_log(run_dir.log_path) for run_dir in (first, second)]
    for title, key, may_be_log in _CURVES:
        lines = []
        for number, (name, log) in enumerate(zip(names, records, strict=True)):
            points = [(record["step"], record[key]) for record in log if key in record]
            if points:
                xs, ys = zip(*points, strict=True)
                lines.append(Series(name, xs, ys, is_main=number == 1))
        if lines:
            is_log = may_be_log and all(y > 0 for line in lines for y in line.ys)
            svg: Markup = line_chart(lines, x_label="step", y_label=title, is_log=is_log)
            charts.append(Chart(title, svg))
    return tuple(charts)


def _text(value: object) -> str:
    return "\u2013" if value is None else value if isinstance(value, str) else json.dumps(value)
