"""The plane of codes of several runs as one figure: reconstruction alone, divergence alone, and both at once.

Reconstruction alone scatters classes anywhere, with holes between them that decode to nothing; the divergence alone
puts every image on the same blot; together they give a plane without holes in which classes lie side by side. All
planes have the same axes: scaled by itself, each would look like the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup

from denoised._files import write_whole
from training.config import RunConfig
from training.errors import DataError
from training.evaluation.charts import scatter_chart
from training.evaluation.report import render
from training.evaluation.scores import Evaluation, psnr_of
from training.evaluation.store import load_evaluations
from training.evaluation.views import PRIOR_RINGS, Picture, sheet_uri
from training.run.directory import RunDir
from training.run.log import read_log

# A few far points must not shrink all others to a blot.
_SHOWN_SHARE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Panel:
    """One run's plane.

    Attributes:
        title: what it minimised, in words.
        run: its directory's name.
        figures: what came of it.
        svg: the codes of the images.
        plane: the decoded plane, or None where the picture is missing.
    """

    title: str
    run: str
    figures: str
    svg: Markup
    plane: Picture | None


def write_panel(path: Path, run_dirs: Sequence[RunDir], image_set: str | None = None) -> None:
    """Writes the page.

    Args:
        path: where to.
        run_dirs: runs with a code of two numbers, each evaluated on the same set.
        image_set: of the evaluations; may be left out where the runs share only one.

    Raises:
        DataError: a run has no such evaluation, or no plane.
    """
    shared = set.intersection(*({e.stem for e in load_evaluations(run_dir) if e.plane} for run_dir in run_dirs))
    if image_set is None and len(shared) == 1:
        image_set = shared.pop()
    elif image_set is None or image_set not in shared:
        raise DataError(
            f"a panel needs one set that all runs were evaluated on with code_length 2; these share "
            f"{', '.join(sorted(shared)) or 'none'}: evaluate them on the same folder, or choose one with --set"
        )
    evaluations = [next(e for e in load_evaluations(run_dir) if e.stem == image_set) for run_dir in run_dirs]
    reach = max(_reach(evaluation) for evaluation in evaluations)
    panels = [_panel(run_dir, found, reach) for run_dir, found in zip(run_dirs, evaluations, strict=True)]
    write_whole(path, render("panel.html.jinja", panels=panels, image_set=image_set).encode())


def _reach(evaluation: Evaluation) -> float:
    """How far from 0 nearly all codes are, in either number."""
    return float(np.quantile([max(abs(point.x), abs(point.y)) for point in evaluation.plane], _SHOWN_SHARE))


def _panel(run_dir: RunDir, evaluation: Evaluation, reach: float) -> Panel:
    config = run_dir.load_config()
    points = [(point.x, point.y) for point in evaluation.plane]
    labels = [point.label for point in evaluation.plane]
    return Panel(
        _title(config),
        run_dir.path.resolve().name,
        "; ".join(_figures(run_dir, evaluation, reach)),
        scatter_chart(
            points,
            labels,
            x_label="first number of the code",
            y_label="second",
            reach=reach,
            rings=PRIOR_RINGS if config.network.kind == "vae" else (),
        ),
        _plane(run_dir, evaluation),
    )


def _title(config: RunConfig) -> str:
    loss = config.loss
    if loss.objective == "loss":
        return " + ".join(f"{weight:g} x {term}" for term, weight in loss.image.items())
    weight = loss.kl_weight if config.network.kind == "vae" else loss.code_penalty
    compression = "divergence" if config.network.kind == "vae" else "energy of the code"
    if weight == 0:
        return "Reconstruction alone"
    if loss.reconstruction_weight == 0:
        return f"{compression.capitalize()} alone"
    return f"Reconstruction + {compression}" if weight == 1 else f"Reconstruction + {weight:g} x {compression}"


def _figures(run_dir: RunDir, evaluation: Evaluation, reach: float) -> list[str]:
    level = evaluation.levels()[0]
    noise = "on clean input" if level == 0 else f"at noise {evaluation.level_name(level)}"
    figures = [f"{evaluation.mean(level, psnr_of):.2f} dB {noise}"]
    step = None if evaluation.origin is None else evaluation.origin.step
    held_out = [record for record in read_log(run_dir.log_path) if record["step"] == step]
    for key, name in (("held_out_reconstruction_nats", "reconstruction"), ("held_out_compression_nats", "divergence")):
        figures += [f"{name} {record[key]:.1f} nats" for record in held_out if key in record][-1:]
    outside = sum(max(abs(point.x), abs(point.y)) > reach for point in evaluation.plane)
    if outside:
        figures.append(f"{outside} of {len(evaluation.plane)} codes lie outside")
    return figures


def _plane(run_dir: RunDir, evaluation: Evaluation) -> Picture | None:
    for figure in evaluation.figures:
        path = run_dir.samples_path / figure.file
        if Path(figure.file).stem == "plane" and path.is_file():
            return Picture(sheet_uri(path.read_bytes()), figure.title, figure.caption)
    return None
