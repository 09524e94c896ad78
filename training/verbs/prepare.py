"""``prepare``: reads folders of images once, checks every file, packs the samples, says what it found."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.verbs.common import Verbs, advancing, progress

if TYPE_CHECKING:
    from training.data.manifest import Manifest

_QUARANTINED_TOLD: Final = 20

_DESCRIPTION: Final = """\
Reads every image once, before any training, and packs it so that a run of any size needs little memory. What can't be
used is listed with the reason and what to do about it; nothing is replaced silently.

Reads PNG, JPEG, WebP and TIFF (OME-TIFF, BigTIFF, ImageJ stacks), 8 or 16 bits or float, grey or colour, by what a file
holds and not by its name. Each page of a stack is an image of its own, called FILE#PAGE.
"""

_EXAMPLES: Final = """\
three kinds of training data:
  clean images, to which training adds noise
    python -m training prepare photos --to runs/pack
  pairs: noisy images in a folder of their own, under the same relative names
    python -m training prepare clean --noisy-folder noisy --to runs/pack
  noisy images alone, such as microscope frames without any clean form
    python -m training prepare frames --noisy-only --channels 1 --to runs/pack

levels: which sample values are black and white. 8-bit files are 0..255. For 16-bit and float files they are fitted to
the whole set: 12-bit data in 16-bit files gets white 4095, and a camera's offset becomes black. They are stored in the
pack and in the exported model. Give --black and --white when you know better.

held-out images are never trained on: a run measures itself on them. Whole folders are held out (whole files where all
lie in one folder), about one image in twenty, so that nothing of a specimen is on both sides:
  --group-by 'specimen_\\d+'  frames of one specimen stay together, by their names
  --group-by '[^#]+'         every file on its own, whatever its folder; pages of a stack stay together
  --group-by '.*#\\d*?(?=\\d?\\d?$)'  blocks of 100 pages, when one long stack is all there is

test images must not be trained on. --test compares every image with those of a folder, also recompressed, resized and
cropped ones, and refuses the pack when one of them, or a quarter of one, is in it. It can't find:
  crops of at most 40 pixels a side: a picture as small as that is found only as the whole of another one, shrunk
  pictures with next to no texture, such as ramps or a few counts of light: they are found as exact copies alone
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "prepare",
        help="read folders of images once, check every file, pack the samples",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, help="folder with images, searched recursively")
    parser.add_argument("--to", type=Path, required=True, help="folder for the pack; an older pack there is replaced")
    parser.add_argument(
        "--channels",
        type=int,
        choices=(1, 3),
        default=3,
        help="of the network: 3 colour (default; grey files are repeated), 1 grey (colour becomes its luma)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--noisy-folder", type=Path, help="noisy partners of the images, under the same relative names")
    kind.add_argument("--noisy-only", action="store_true", help="the images are noisy and have no clean form")
    parser.add_argument("--black", type=float, help="sample value of black (default: fitted)")
    parser.add_argument("--white", type=float, help="sample value of white (default: fitted)")
    parser.add_argument(
        "--min-side-px", type=_side_px, default=16, help="images with a shorter side are left out (default 16)"
    )
    parser.add_argument(
        "--group-by",
        metavar="REGEX",
        help="what belongs together when images are held out: what the expression captures, or matches, in a file's "
        "name with its folders (default: folders)",
    )
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="test images, which must not be among the images; may be given more than once",
    )
    parser.add_argument(
        "--allow-overlap", action="store_true", help="pack test images all the same; the pack records which"
    )
    parser.set_defaults(run=_run)


def _side_px(text: str) -> int:
    side_px = int(text)
    if side_px < 1:
        raise argparse.ArgumentTypeError(f"{side_px} pixels are no side; give at least 1")
    return side_px


def _run(arguments: argparse.Namespace) -> None:
    from training.data.files import find_images
    from training.data.prepare import prepare

    file_count = len(find_images(arguments.images))
    # Stacks hold more images than files; the second bar then counts on without an end.
    compared_count = file_count * len(arguments.test)
    with (
        progress(file_count, "file", "read") as bar,
        progress(compared_count, "image", "compare with test images") as compared,
    ):
        manifest = prepare(
            arguments.images,
            arguments.to,
            channels=arguments.channels,
            min_side_px=arguments.min_side_px,
            noisy_folder=arguments.noisy_folder,
            noisy_only=arguments.noisy_only,
            black=arguments.black,
            white=arguments.white,
            group_by=arguments.group_by,
            test_folders=arguments.test,
            allow_overlap=arguments.allow_overlap,
            on_file=advancing(bar),
            on_compared=advancing(compared),
        )
    for line in summary(manifest, arguments.to):
        print(line)


def summary(manifest: "Manifest", pack: Path) -> list[str]:
    """What was found, for people: one finding a line."""
    pixels = sum(image.height_px * image.width_px for image in manifest.images)
    kind = {"clean": "images", "pairs": "pairs of a clean and a noisy image", "noisy": "noisy images"}
    levels = manifest.levels
    lines = [f"left out: {entry.file}: {entry.reason}" for entry in manifest.quarantined[:_QUARANTINED_TOLD]]
    if len(manifest.quarantined) > _QUARANTINED_TOLD:
        lines.append(f"left out: {len(manifest.quarantined) - _QUARANTINED_TOLD} more, all listed in {pack}")
    notes = Counter(note for image in manifest.images for note in image.notes)
    lines += [f"changed: {note} ({count} images)" for note, count in sorted(notes.items())]
    lines.append(
        f"{len(manifest.images)} {kind[manifest.supervision]}, {pixels / 1e6:.1f} megapixels, "
        f"{'colour' if manifest.channels == 3 else 'grey'}, packed into {pack}; {len(manifest.quarantined)} left out"
    )
    lines.append(
        f"levels: {levels.sample_type} samples, {levels.black:g} is black and {levels.white:g} white "
        f"({manifest.levels_reason})"
    )
    lines.append(f"split: {manifest.split_rule}")
    for test_set in manifest.test_sets:
        lines += [f"overlap, allowed: {test_set.folder}/{o.test_file}: {o.how} {o.file}" for o in test_set.overlaps]
        verdict = f"{len(test_set.overlaps)} overlap" if test_set.overlaps else "none of them"
        lines.append(f"test set {test_set.folder}: {test_set.image_count} images, {verdict} in the pack")
    if manifest.test_sets:
        lines.append(
            "not looked for: crops of at most 40 pixels a side; pictures with next to no texture, unless copied exactly"
        )
    else:
        lines.append("test images: none were compared; name them with --test")
    return lines
