"""``python -m tests.bench.quality``: what the service's networks make of noisy images, against what else there is.

Evaluation images go as PNG through the running service, as a client would send them; classical methods are measured
in the same run. Prints tables and writes JSON. Without --images: the Kodak photographs where they lie beside the
checkout, and scikit-image's. See docs/quality.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from denoised import Client
from denoised.contract import ModelContract
from denoised.noise import Gaussian
from service.demo.process import running_service
from tests.bench.quality.artefacts import Artefacts, check
from tests.bench.quality.document import Document, document, to_text
from tests.bench.quality.images import CleanImage, ImageSet, image_sets
from tests.bench.quality.measure import Task, headline_sigma, row_of, score_task, tasks
from tests.bench.quality.methods import Classical, Served, classical_methods, served_methods
from tests.bench.quality.plot import draw
from tests.bench.quality.protocols import Condition
from tests.bench.quality.raw import RawNetwork
from tests.bench.quality.scores import Row, Score
from tests.bench.quality.sheets import write_before_after, write_sheet
from tests.bench.quality.table import replace_in_readme, whole_text

_SIGMAS: Final = (15, 25, 50)
_REPOSITORY: Final = Path(__file__).resolve().parents[3]
_README: Final = _REPOSITORY / "README.md"
_RESULTS: Final = _REPOSITORY / "docs" / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    skipped: list[str] = []
    classical = [] if options.no_baselines else list(classical_methods(skipped.append))
    trees = []
    with running_service() as running, Client(running.grpc_target) as client:
        networks = [(served, RawNetwork.of(served.model)) for served in served_methods(client)]
        for image_set in image_sets(options.images, options.count):
            measured = _measure(Run(networks, classical, options.sigmas, tuple(skipped)), image_set)
            trees.append(measured)
            print(f"\n{whole_text(measured)}\n")
            target = options.json_dir / f"quality-{image_set.name}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(to_text(measured), encoding="utf-8")
            plot = options.plots_dir / f"quality-{image_set.name}.png"
            draw(measured, plot)
            print(f"written to {target} and {plot}")
        if options.sheets is not None:
            _write_sheets(options.sheets, networks, headline_sigma(options.sigmas))
        if options.before_after is not None:
            write_before_after(options.before_after, networks[0][0].clean)
    if options.readme:
        replace_in_readme(_README, trees)


@dataclass(frozen=True, slots=True)
class Run:
    """What is the same for all sets."""

    networks: Sequence[tuple[Served, RawNetwork]]
    classical: Sequence[Classical]
    sigmas: Sequence[int]
    skipped: tuple[str, ...]


def _measure(run: Run, image_set: ImageSet) -> Document:
    rows: list[Row] = []
    scores: list[Score] = []
    artefacts: list[Artefacts] = []
    skipped = list(run.skipped)
    raw_by_name = {served.name: raw for served, raw in run.networks}
    work = []
    for task in tasks([served for served, _ in run.networks], run.classical, run.sigmas):
        images = _images_for(task, image_set)
        if images:
            work.append((task, images))
        else:
            skipped.append(f"{task.method.name} skipped: it takes no image of {image_set.name}")
    total = sum(len(task.conditions) * len(images) for task, images in work)
    with tqdm(total=total, unit="image", desc=image_set.name, disable=None) as bar:
        for task, images in work:
            bar.set_postfix_str(task.method.name)
            own = list(score_task(task, images, bar.update))
            raw = raw_by_name.get(task.method.name)
            scores += own
            rows.append(row_of(task, own, images, raw))
            if raw is not None and isinstance(task.method, Served):
                artefacts.append(_checked(task.method, raw, images, headline_sigma(run.sigmas)))
    return document(image_set, run.sigmas, rows, scores, artefacts, skipped)


def _images_for(task: Task, image_set: ImageSet) -> tuple[CleanImage, ...]:
    method = task.method
    if not isinstance(method, Served):
        return image_set.images
    return tuple(image for image in image_set.images if method.takes(task.conditions[0].reference(image).samples))


def _checked(served: Served, raw: RawNetwork, images: Sequence[CleanImage], sigma: int) -> Artefacts:
    condition = Condition("gaussian", sigma, is_grey=served.model.channel_count == 1)
    pairs = [(served.clean(condition.noisy(image)), condition.reference(image).samples) for image in images]
    return check(
        served.name,
        pairs,
        sigma=sigma,
        contract=raw.contract,
        served=served.clean,
        untiled=raw.answer,
    )


def _write_sheets(folder: Path, networks: Sequence[tuple[Served, RawNetwork]], sigma: int) -> None:
    for served, raw in networks:
        path = folder / f"{served.model.name}-{served.model.version}.png"
        drawn = write_sheet(path, served.clean, _sheet_condition(raw.contract, sigma), takes=served.takes)
        print(f"written to {path}" if drawn else f"no sheet of {served.name}: it takes none of the photographs")


def _sheet_condition(contract: ModelContract, sigma: int) -> Condition:
    """White noise for a network that was made for it alone, else a camera's."""
    is_grey = contract.channels == 1
    if all(isinstance(stage, Gaussian) for stage in contract.noise.stages):
        return Condition("gaussian", sigma, is_grey=is_grey)
    return Condition("photo", is_grey=is_grey)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=Path, action="append", help="folder of clean 8-bit images; may be repeated")
    parser.add_argument("--count", type=_positive, help="only so many images of each set, for a quick look")
    parser.add_argument("--sigmas", type=int, nargs="+", default=list(_SIGMAS), help="noise levels (default 15 25 50)")
    parser.add_argument("--no-baselines", action="store_true", help="leave the classical methods out")
    parser.add_argument("--json-dir", type=Path, default=Path("build"), help="where quality-<set>.json goes")
    parser.add_argument("--plots-dir", type=Path, default=Path("build"), help="where quality-<set>.png goes")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="draw a sheet of pictures for each network there")
    parser.add_argument("--before-after", type=Path, metavar="FILE", help="draw the default network's portrait there")
    parser.add_argument("--readme", action="store_true", help="replace the tables in the README by these")
    options = parser.parse_args(arguments)
    # The README links the files that its tables come from, and they are of whole sets.
    if options.readme and (options.count is not None or options.json_dir.resolve() != _RESULTS):
        parser.error(
            "--readme quotes whole sets as docs/results has them: add --json-dir docs/results, leave out --count"
        )
    return options


def _positive(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} images tell nothing; at least 1")
    return count


if __name__ == "__main__":
    main()
