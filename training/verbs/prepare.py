"""``prepare``: reads a folder of images once, checks every file, packs the pixels."""

import argparse
from pathlib import Path

from tqdm import tqdm

from training.verbs.common import Verbs, advancing


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("prepare", help="read a folder of images once, check every file, pack the pixels")
    parser.add_argument("images", type=Path, help="folder with PNG, JPEG or WebP images, searched recursively")
    parser.add_argument("--to", type=Path, required=True, help="folder for the packed images")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3, help="3 colour (default), 1 grey")
    parser.add_argument("--min-side-px", type=int, default=128, help="smaller images are left out (default 128)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.files import find_images
    from training.data.prepare import prepare

    with tqdm(total=len(find_images(arguments.images)), unit="file") as bar:
        manifest = prepare(
            arguments.images,
            arguments.to,
            channels=arguments.channels,
            min_side_px=arguments.min_side_px,
            on_file=advancing(bar),
        )
    for entry in manifest.quarantined:
        print(f"left out: {entry.file}: {entry.reason}")
    megapixels = sum(image.height_px * image.width_px for image in manifest.images) / 1e6
    print(
        f"{len(manifest.images)} images with {megapixels:.1f} megapixels packed into {arguments.to}, "
        f"{len(manifest.quarantined)} left out"
    )
