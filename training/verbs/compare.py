"""``compare``: two runs side by side, on a page and in the terminal."""

import argparse
from pathlib import Path

from training.errors import DataError
from training.verbs.common import Verbs

_TEXT = """\
Compares two runs on every set that both were evaluated on: the change of PSNR, SSIM and detail at each noise level with
95 % intervals of the differences image by image, what differs in their configurations, and their training curves. With
--images, crops of the images on which the two differ most are shown too.
"""

_EXAMPLES = """\
examples:
  python -m training evaluate runs/a --images validation
  python -m training evaluate runs/b --images validation
  python -m training compare runs/a runs/b --images validation
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "compare",
        help="two runs side by side",
        description=_TEXT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", metavar="RUN", type=Path, help="directory of the run to compare with")
    parser.add_argument("second", metavar="RUN", type=Path, help="directory of the run that is compared with it")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="clean images to show crops of")
    parser.add_argument("--to", type=Path, help="page to write (default: compare.html in the second run)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.evaluation.choices import chosen_conditions, chosen_images
    from training.evaluation.compare import comparable_sets, crop_sheet, run_names, write_comparison
    from training.evaluation.views import Picture
    from training.run.directory import RunDir
    from training.run.trained import load_trained

    first, second = RunDir(arguments.first), RunDir(arguments.second)
    sets = comparable_sets(first, second)
    pictures: tuple[Picture, ...] = ()
    if arguments.images is not None:
        trained = load_trained(first), load_trained(second)
        if trained[0].levels != trained[1].levels:
            raise DataError(
                f"the runs were trained on samples of unlike black and white, {trained[0].levels} and "
                f"{trained[1].levels}; no image is the same for both: leave out --images"
            )
        images = chosen_images(trained[1], pack=None, folder=arguments.images)
        conditions = chosen_conditions(trained[1].config, images)
        pictures = (crop_sheet(trained[0].network, trained[1].network, images, conditions, run_names(first, second)),)
    path = arguments.to or second.path / "compare.html"
    write_comparison(path, first, second, sets, pictures)
    for one in sets:
        print(one.table(), end="\n\n")
    print(f"written to {path}")
