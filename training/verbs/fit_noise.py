"""``fit-noise``: gain and read noise of the user's own images, as a section to paste into a config."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from training.errors import DataError
from training.verbs.common import Verbs, advancing, check_plot_path, progress

if TYPE_CHECKING:
    from training.data.pack import Pack
    from training.noise.fit import NoiseFit

_DESCRIPTION = """\
Estimates what noise a camera makes: its gain (photon noise, whose variance grows with the signal) and its read noise
(the same everywhere). The best source are repeats: two or more frames of one still scene under steady light, as a
stack or as files of a folder, with --repeats. Single images of anything do as well, where they have smooth areas.

Prints a table and the [noise] section for a training config; writes everything as JSON, too.

Take raw frames. Demosaiced, resized or JPEG images have noise that is correlated between neighbours: from single
images its strength comes out roughly, and the answer says so.
"""
_EXAMPLE = """\
examples:
  python -m training fit-noise FRAMES --channels 1
  python -m training fit-noise runs/pack --plot noise.svg
  python -m training fit-noise STACK_FOLDER --channels 1 --repeats --json camera.json
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "fit-noise",
        help="estimate gain and read noise from your own images",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="packed images, from prepare, or a folder of image files")
    parser.add_argument("--repeats", action="store_true", help="the images, or planes of each stack, show one scene")
    parser.add_argument(
        "--channels", type=int, choices=(1, 3), default=3, help="of a folder's images: 3 colour (default), 1 grey"
    )
    parser.add_argument("--black", type=float, help="of a folder's images: sample value of black; fitted if left out")
    parser.add_argument("--white", type=float, help="of a folder's images: sample value of white; fitted if left out")
    parser.add_argument("--json", type=Path, default=Path("noise.json"), help="file to write (default noise.json)")
    parser.add_argument("--plot", type=Path, help="picture of variance against mean to draw, PNG or SVG")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from denoised._files import write_whole
    from training.noise.report import draw_fit, fit_table, noise_section

    check_plot_path(arguments.plot)
    fit = _fit(arguments)
    print(f"noise of {fit.image_count} images, from {fit.method}\n\n{fit_table(fit)}\n\n{noise_section(fit.spec())}")
    if fit.is_correlated:
        print(
            f"The noise of neighbouring pixels is correlated ({fit.correlation:.2f}): the images were demosaiced, "
            "resized or compressed. Training from such noisy images alone would keep the noise; with clean images, "
            "add a demosaic, resize or jpeg stage."
            + (" The strength above is rough; repeats tell it." if fit.method == "single images" else ""),
            file=sys.stderr,
        )
    write_whole(arguments.json, fit.to_json().encode())
    print(f"written to {arguments.json}")
    if arguments.plot is not None:
        draw_fit(fit, arguments.plot)
        print(f"drawn in {arguments.plot}")


def _fit(arguments: argparse.Namespace) -> "NoiseFit":
    from training.data.files import find_images
    from training.data.pack import MANIFEST_FILE, Pack
    from training.data.prepare import prepare

    if (arguments.source / MANIFEST_FILE).is_file():
        if arguments.black is not None or arguments.white is not None:
            raise DataError("a pack has its own black and white level; prepare it again, or name the folder of images")
        return _fitted(Pack(arguments.source), arguments)
    with TemporaryDirectory(prefix="fit-noise-") as folder:
        with progress(len(find_images(arguments.source)), "file", "read") as bar:
            manifest = prepare(
                arguments.source,
                Path(folder),
                channels=arguments.channels,
                noisy_only=True,
                black=arguments.black,
                white=arguments.white,
                on_file=advancing(bar),
            )
        for entry in manifest.quarantined:
            print(f"left out: {entry.file}: {entry.reason}", file=sys.stderr)
        return _fitted(Pack(Path(folder)), arguments)


def _fitted(pack: "Pack", arguments: argparse.Namespace) -> "NoiseFit":
    from training.noise.fit import fit_noise

    with progress(len(pack.manifest.images), "image", "measure") as bar:
        advance = advancing(bar)
        return fit_noise(pack, repeats=arguments.repeats, on_image=lambda image: advance(image.file))
