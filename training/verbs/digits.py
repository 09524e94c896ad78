"""``digits``: writes handwritten digits as PNG files, to try the networks that go through a code."""

import argparse
from pathlib import Path
from typing import Final

from training.verbs.common import Verbs

_DESCRIPTION: Final = """\
Writes handwritten digits as PNG files: TO/train/LABEL/NUMBER.png and TO/test/LABEL/NUMBER.png. Small enough that every
network with a code trains on a laptop in minutes, well known enough that one sees at once whether it works.
"""

_EXAMPLES: Final = """\
from scikit-learn's bundled digits (8 x 8 pixels, nothing to fetch) to a trained autoencoder and its report:
  python -m training digits --from sklearn --to runs/digits
  python -m training prepare runs/digits/train --channels 1 --min-side-px 8 --group-by '[^#]+' --to runs/digits-pack
  python -m training train training/configs/digits-conv-ae.toml --data runs/digits-pack --run runs/digits-ae \\
    --set network.side_px=8 --set data.crop_px=8 --set network.code_length=8
  python -m training evaluate runs/digits-ae --images runs/digits/test

--group-by '[^#]+' holds out single files: the folders are labels here, and a label held out would never be learnt.

from MNIST, Fashion-MNIST or anything else in IDX files (28 x 28); the configs digits-*.toml are as they stand:
  python -m training digits --from FOLDER_WITH_IDX_FILES --to runs/mnist
Files called train-* and t10k-* keep their parts; of a single set the last tenth becomes test.
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "digits",
        help="write handwritten digits as PNG files, to try the networks with a code",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="SOURCE",
        help="sklearn, or a folder with IDX files (NAME-images-idx3-ubyte and NAME-labels-idx1-ubyte, plain or .gz)",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder for the PNG files; new or empty")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.digits import from_idx, from_sklearn, write_digits

    digits = from_sklearn() if arguments.source == "sklearn" else from_idx(Path(arguments.source))
    write_digits(digits, arguments.to)
    side_px = digits.train.images.shape[1]
    print(
        f"{len(digits.train)} digits of {side_px} x {side_px} pixels to train on and {len(digits.test)} to test on, "
        f"in {arguments.to}"
    )
