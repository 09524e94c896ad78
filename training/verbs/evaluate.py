"""``evaluate``: what a run's network is worth on images that it never saw."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import ConfigError
from training.verbs.common import Verbs, advancing, progress

if TYPE_CHECKING:
    from training.data.pack import Pack
    from training.evaluation.measure import Baseline
    from training.run.directory import RunDir
    from training.run.trained import Trained

_TEXT = """\
Measures a run's network, beside the noisy input and classical denoisers on the same pixels: PSNR, SSIM, and the share
of fine detail that survives, with 95 % confidence intervals over images. Scores go to RUN/evaluations, pictures to
RUN/samples, and a page with curves, tables and the worst images is written beside the scores.

What the noise is: the benchmark's Gaussian levels where the run was made for Gaussian noise, else the run's own noise
from its mildest (severity 0) to its strongest (1); or what --noisy holds. Networks with a code are measured on clean
input too (sigma 0), which is their reconstruction; with --data they are compared with principal components of the same
length, and, where folders are labels, by a linear probe.

Files that can't be read are left out and listed at the end, in the scores and on the page; only a folder with none that
can be read ends with exit code 1. The scores are written before anything is drawn.

Without clean images there is no PSNR. --without-clean estimates instead: whiteness of what was removed, SURE, and, from
second frames of the same scenes, the error by repeats. Every table says that these are estimates.
"""

_EXAMPLES = """\
examples:
  python -m training evaluate runs/quick --images validation
  python -m training evaluate runs/quick --data runs/pack                       (its held-out images)
  python -m training evaluate runs/quick --images validation --sigmas 15 25 50 --baselines none
  python -m training evaluate runs/pairs --images clean --noisy recorded
  python -m training evaluate runs/digits --images digits/test --data runs/digits-pack
  python -m training evaluate runs/scope --images frames --repeats second-frames --without-clean --data runs/scope-pack
in a pipeline, exit code 1 when the network lost more than 0.05 dB at some level:
  python -m training evaluate runs/new --images validation --against runs/old --tolerance-db 0.05
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "evaluate",
        help="PSNR, SSIM and detail beside baselines, with a report; estimates where no clean image exists",
        description=_TEXT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    images = parser.add_argument_group("images")
    images.add_argument("--images", type=Path, metavar="FOLDER", help="the images; its name is the set's")
    images.add_argument(
        "--data",
        type=Path,
        metavar="PACK",
        help="packed images that the run was trained on: brings training images for PCA and the probe; without "
        "--images its held-out images are measured. Black and white are those of the run, with it or without",
    )
    images.add_argument("--noisy", type=Path, metavar="FOLDER", help="recorded noisy forms, by the same names")
    images.add_argument(
        "--name", help="name of the set in reports, and of its files (default: the folder's, or held-out)"
    )
    noise = parser.add_argument_group("noise")
    noise.add_argument("--sigmas", type=float, nargs="+", help="Gaussian levels in 8-bit levels; 0 is clean input")
    noise.add_argument("--severities", type=float, nargs="+", help="0..1 within the ranges of the run's own noise")
    estimates = parser.add_argument_group("without clean images")
    estimates.add_argument("--without-clean", action="store_true", help="the images are noisy: estimate")
    estimates.add_argument("--repeats", type=Path, metavar="FOLDER", help="second frames of the same scenes and names")
    estimates.add_argument("--known-sigma", type=float, help="noise level in 8-bit levels, where it is known")
    parser.add_argument("--weights", choices=("best", "last"), help="checkpoint (default: best, or last without one)")
    parser.add_argument(
        "--baselines",
        choices=("all", "fast", "none"),
        default="all",
        help="all (default); fast leaves out the slow ones; none",
    )
    gate = parser.add_argument_group("gate")
    gate.add_argument(
        "--against",
        type=Path,
        metavar="RUN_OR_JSON",
        help="earlier run, or a file of its scores: same pixels and noise, no level that is not measured now",
    )
    gate.add_argument("--tolerance-db", type=float, default=0.05, help="allowed loss of mean PSNR (default 0.05)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.run.directory import RunDir
    from training.run.trained import load_trained

    run_dir = RunDir(arguments.run_path)
    trained = load_trained(run_dir, arguments.weights)
    pack = None if arguments.data is None else Pack(arguments.data)
    if arguments.without_clean:
        _estimate(arguments, run_dir, trained, pack)
    else:
        _measure(arguments, run_dir, trained, pack)


def _measure(arguments: argparse.Namespace, run_dir: "RunDir", trained: "Trained", pack: "Pack | None") -> None:
    from training.evaluation.choices import chosen_conditions, chosen_images, training_pictures
    from training.evaluation.gate import load_previous, require_levels, require_no_worse
    from training.evaluation.report import write_evaluation_report
    from training.evaluation.scores import stem_of
    from training.evaluation.session import evaluate_run

    if arguments.repeats is not None or arguments.known_sigma is not None:
        raise ConfigError("--repeats and --known-sigma belong to --without-clean; add it, or leave them out")
    if arguments.images is None and pack is not None and pack.manifest.supervision == "noisy":
        raise ConfigError("the pack holds noisy images alone, so its held-out ones are no truth; add --without-clean")
    images = chosen_images(trained, pack=pack, folder=arguments.images, noisy=arguments.noisy, name=arguments.name)
    conditions = chosen_conditions(trained.config, images, sigmas=arguments.sigmas, severities=arguments.severities)
    before = None
    if arguments.against is not None:
        before = load_previous(arguments.against, stem_of(images.name, conditions.protocol))
        require_levels(before, conditions.levels, protocol=conditions.protocol)
    has_code = trained.network.code_length is not None
    references = training_pictures(trained, pack) if pack is not None and has_code else ()
    with progress(len(images), "image") as bar:
        evaluation = evaluate_run(
            run_dir,
            trained,
            images,
            conditions,
            baselines=_baselines(arguments.baselines),
            references=references,
            on_image=advancing(bar),
        )
    page = write_evaluation_report(run_dir, evaluation)
    print(f"{evaluation.image_set}: {evaluation.metric}\n\n{evaluation.table()}\n\nwritten to {page}")
    _print_notes(evaluation.notes)
    if before is not None:
        require_no_worse(before, evaluation, tolerance_db=arguments.tolerance_db)
        print(f"no worse than {arguments.against} within {arguments.tolerance_db:g} dB")


def _estimate(arguments: argparse.Namespace, run_dir: "RunDir", trained: "Trained", pack: "Pack | None") -> None:
    from training.evaluation.choices import chosen_images
    from training.evaluation.report import write_evaluation_report
    from training.evaluation.session import estimate_run

    if arguments.noisy or arguments.sigmas or arguments.severities or arguments.against:
        raise ConfigError("--without-clean takes the images as they are: leave out --noisy, noise levels and --against")
    if arguments.images is None and pack is not None and pack.manifest.supervision != "noisy":
        raise ConfigError(
            "the pack's held-out images are clean; name noisy ones with --images, or leave out --without-clean"
        )
    images = chosen_images(trained, pack=pack, folder=arguments.images, noisy=arguments.repeats, name=arguments.name)
    with progress(len(images), "image") as bar:
        estimates = estimate_run(run_dir, trained, images, sigma=arguments.known_sigma, on_image=advancing(bar))
    page = write_evaluation_report(run_dir, estimates)
    print(f"{estimates.image_set}: {estimates.definitions}\n\n{estimates.table()}\n\nwritten to {page}")
    _print_notes(estimates.notes)


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


def _baselines(choice: str) -> "dict[str, Baseline]":
    from training.evaluation.baselines import BASELINES, FAST_BASELINES

    return {"all": dict(BASELINES), "fast": dict(FAST_BASELINES), "none": {}}[choice]
