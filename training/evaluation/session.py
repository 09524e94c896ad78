"""One evaluation of a run from end to end: measures, draws, probes, and leaves it all in the run's directory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from PIL import Image as PillowImage

from denoised.noise import Image
from training.evaluation.choices import components_baseline, components_of
from training.evaluation.conditions import Conditions
from training.evaluation.estimates import NoReference
from training.evaluation.grids import draw_sheet, save_png
from training.evaluation.latent import (
    PRIOR_REACH,
    interpolation_sheet,
    plane_points,
    plane_sheet,
    prior_sheet,
    reconstruction_sheet,
)
from training.evaluation.measure import Baseline, Measured, evaluate
from training.evaluation.no_reference import SAMPLE_HEADS, estimate
from training.evaluation.probe import probe_codes
from training.evaluation.samples import sample_sheet
from training.evaluation.scores import Evaluation, Figure, Origin, PlanePoint
from training.evaluation.store import save_estimates, save_evaluation
from training.evaluation.subjects import ImageSet
from training.networks.base import LatentNetwork
from training.run.directory import RunDir
from training.run.trained import Trained

# As many small images as the sheets and the probe look at are kept in memory.
_MOST_KEPT: Final = 20_000
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A picture before it has a file."""

    name: str
    title: str
    caption: str
    sheet: PillowImage.Image


def origin_of(trained: Trained) -> Origin:
    """What reports say about where a network comes from."""
    config = trained.config
    return Origin(
        config.name, config.network.kind, trained.step, trained.weights, config.network.code_length, trained.pack_digest
    )


def evaluate_run(
    run_dir: RunDir,
    trained: Trained,
    images: ImageSet,
    conditions: Conditions,
    *,
    baselines: Mapping[str, Baseline],
    references: Sequence[tuple[Image, str]] = (),
    on_image: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Scores a run on images with clean truth; writes the scores and all pictures.

    The scores are written as soon as they exist, and again with what is drawn and probed: a full disk then costs the
    pictures, not the hours of measuring.

    Args:
        run_dir: where they go.
        trained: its network.
        images: the set.
        conditions: the noise.
        baselines: to compare with.
        references: training images with their labels, for networks with a code: principal components of the same
            length are solved on them and join the baselines; where they have the labels of the set, codes and
            components are probed.
        on_image: called after each image.
    """
    components = None
    if references and isinstance(trained.network, LatentNetwork):
        components = components_of(trained.network, [image for image, _ in references])
        baselines = {**baselines, f"PCA, {trained.network.code_length} numbers": components_baseline(components)}
    measured = evaluate(
        trained.network, images, conditions, baselines=baselines, origin=origin_of(trained), on_image=on_image
    )
    evaluation = measured.evaluation
    save_evaluation(run_dir, evaluation)
    drawings = _sample_drawings(measured)
    if isinstance(trained.network, LatentNetwork):
        network = trained.network
        kept = [subject for subject, _ in zip(images, range(_MOST_KEPT), strict=False)]
        noisiest = max(conditions.levels)
        noisy = [conditions.noisy(subject, noisiest) for subject in kept] if noisiest > 0 else None
        clean = [subject.clean for subject in kept]
        drawings = _latent_drawings(network, trained, clean, noisy, _of_level(evaluation, noisiest)) + drawings
        labels = [subject.label for subject in kept]
        if network.code_length == 2:
            plane = plane_points(network, clean, labels)
            evaluation = replace(evaluation, plane=plane)
            drawings.append(_plane_drawing(network, plane, has_prior=trained.config.network.kind == "vae"))
        if components is not None and len({label for _, label in references}) > 1:
            tested = list(zip(clean, labels, strict=True))
            evaluation = _probed(evaluation, network, components, references, tested)
    evaluation = replace(evaluation, figures=_saved(run_dir, evaluation.stem, drawings))
    save_evaluation(run_dir, evaluation)
    return evaluation


def estimate_run(
    run_dir: RunDir,
    trained: Trained,
    images: ImageSet,
    *,
    sigma: float | None,
    on_image: Callable[[str], None] = lambda _: None,
) -> NoReference:
    """Estimates for a run on noisy images alone; writes them with a sheet of samples."""
    estimates, rows = estimate(trained.network, images, sigma=sigma, origin=origin_of(trained), on_image=on_image)
    save_estimates(run_dir, estimates)
    sheet = draw_sheet(SAMPLE_HEADS, rows)
    drawing = _Drawing("estimates", "First images", "no clean image exists; eight times what was removed", sheet)
    estimates = replace(estimates, figures=_saved(run_dir, f"{estimates.stem}.estimates", [drawing]))
    save_estimates(run_dir, estimates)
    return estimates


def _probed(
    evaluation: Evaluation,
    network: LatentNetwork,
    components: LatentNetwork,
    references: Sequence[tuple[Image, str]],
    tested: Sequence[tuple[Image, str]],
) -> Evaluation:
    """With the probe; with a note in its place where the set has labels that no training image has."""
    unknown = sorted({label for _, label in tested} - {label for _, label in references})
    if not unknown:
        return replace(evaluation, probe=probe_codes(network, components, references, tested))
    named = ", ".join(label or "none" for label in unknown[:_MOST_NAMED]) + ("..." if unknown[_MOST_NAMED:] else "")
    note = (
        f"No linear probe: training has no image with the label {named}; labels are the names of the folders that "
        "images lie in"
    )
    return replace(evaluation, notes=(*evaluation.notes, note))


def _sample_drawings(measured: Measured) -> list[_Drawing]:
    evaluation, keeper = measured.evaluation, measured.samples
    worst = keeper.worst()
    captions = [f"{sample.file}: {sample.psnr_db:.2f} dB" for sample in worst]
    names = [f"{_of_level(evaluation, sample.level)}: {sample.psnr_db:.2f} dB" for sample in keeper.shown]
    return [
        _Drawing(
            "worst",
            f"The {len(worst)} images with the lowest PSNR",
            f"{_of_level(evaluation, keeper.headline_level)}; the part with the largest error",
            sample_sheet(worst, captions),
        ),
        _Drawing("levels", "One image at every level", keeper.shown[0].file, sample_sheet(keeper.shown, names)),
    ]


def _of_level(evaluation: Evaluation, level: float) -> str:
    name = evaluation.level_name(level)
    return f"sigma {name}" if evaluation.protocol == "gaussian" else name


def _latent_drawings(
    network: LatentNetwork, trained: Trained, clean: Sequence[Image], noisy: Sequence[Image] | None, level: str
) -> list[_Drawing]:
    drawings = [
        _Drawing(
            "reconstructions",
            "Reconstructions",
            f"through a code of {network.code_length} numbers",
            reconstruction_sheet(network, clean, noisy, level),
        ),
        _Drawing(
            "interpolation",
            "Between two codes",
            "each row decodes the straight line from one image's code to another's",
            interpolation_sheet(network, clean),
        ),
    ]
    if trained.config.network.kind == "vae":
        drawings.insert(
            1,
            _Drawing(
                "prior",
                "Samples of the prior",
                "decoded draws of the standard normal distribution, seed 0; none of them was chosen",
                prior_sheet(network),
            ),
        )
    return drawings


def _plane_drawing(network: LatentNetwork, points: Sequence[PlanePoint], *, has_prior: bool) -> _Drawing:
    caption = "codes on a grid over the middle 96 % of the images' codes"
    if has_prior:
        caption = f"codes on a grid from -{PRIOR_REACH:g} to {PRIOR_REACH:g}, where the prior's draws lie"
    return _Drawing(
        "plane", "The plane of codes, decoded", caption, plane_sheet(network, None if has_prior else points)
    )


def _saved(run_dir: RunDir, stem: str, drawings: Sequence[_Drawing]) -> tuple[Figure, ...]:
    """Writes the files; names in figures are relative to the run's folder of samples."""
    figures = []
    for drawing in drawings:
        file = Path(stem) / f"{drawing.name}.png"
        save_png(drawing.sheet, run_dir.samples_path / file)
        figures.append(Figure(file.as_posix(), drawing.title, drawing.caption))
    return tuple(figures)
