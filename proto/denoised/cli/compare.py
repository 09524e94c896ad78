"""``denoised compare``: how far two images are from each other, in numbers and as a picture. Needs Pillow."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoised.cli.exits import Failed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AMPLIFICATION = 8


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("reference", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--white-level",
    type=click.FloatRange(min=0, min_open=True),
    help="The sample value that is white.  [default: 255, 65535 for 16 bits, 1 for floats]",
)
@click.option(
    "--difference",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write a PNG there: image minus reference, {_AMPLIFICATION} times as strong, around grey.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with a slider there.")
@click.option("--min-psnr", type=float, help="Exit with 1 when the PSNR is below so many dB.")
@click.option("--min-ssim", type=float, help="Exit with 1 when the SSIM is below that.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(
    image: Path,
    reference: Path,
    white_level: float | None,
    difference: Path | None,
    report: Path | None,
    min_psnr: float | None,
    min_ssim: float | None,
    as_json: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Compare an image with a reference: PSNR, SSIM, largest difference.

    Both must have the same size, channels and type. Besides image files, arrays in .npy are read. No server is asked.

    \b
    Examples:
      denoised compare clean.png original.png
      denoised compare clean.png original.png --difference difference.png --report page.html
      denoised compare clean.png golden.png --min-psnr 40 || echo changed

    \b
    Exit codes:
      0  compared, and not below what was asked for
      1  below it, or not to be compared
      2  the command was wrong
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    try:
        from denoised._pictures import exact_picture
    except ImportError as error:
        raise click.UsageError(f"compare needs Pillow ({error}): pip install 'denoised[images]'") from error
    try:
        one, other = exact_picture(image), exact_picture(reference)
        figures = _figures(one, other, white_level)
        if difference is not None:
            _write_difference(difference, one, other, figures["white_level"])
        if report is not None:
            _write_page(report, image, reference, figures)
    except (OSError, ValueError) as error:
        raise Failed(str(error)) from error
    if as_json:
        # Equal images have no finite PSNR, and JSON has no infinity.
        finite = {key: None if value == math.inf else value for key, value in figures.items()}
        click.echo(json.dumps({"image": str(image), "reference": str(reference), **finite}))
    else:
        ssim = "" if figures["ssim"] is None else f"SSIM {figures['ssim']:.4f}, "
        click.echo(
            f"PSNR {figures['psnr_db']:.2f} dB, {ssim}largest difference {figures['largest_difference']:g} "
            f"of {figures['white_level']:g}, {figures['differing_share']:.2%} of the values differ"
        )
    is_below = min_psnr is not None and figures["psnr_db"] < min_psnr
    if is_below or (min_ssim is not None and (figures["ssim"] is None or figures["ssim"] < min_ssim)):
        sys.exit(Failed.exit_code)


def _figures(one: "NDArray[Any]", other: "NDArray[Any]", white_level: float | None) -> dict[str, Any]:
    import numpy as np

    from denoised.quality import SSIM_SMALLEST_SIDE_PX, psnr_db, ssim

    if (one.shape, one.dtype) != (other.shape, other.dtype):
        raise ValueError(f"the image is {_form(one)}, the reference {_form(other)}; only images alike can be compared")
    if white_level is None:
        white_level = float(np.iinfo(one.dtype).max) if np.issubdtype(one.dtype, np.integer) else 1.0
    distance = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return {
        "psnr_db": psnr_db(one, other, value_range=white_level),
        "ssim": ssim(one, other, value_range=white_level) if min(one.shape[:2]) >= SSIM_SMALLEST_SIDE_PX else None,
        "largest_difference": float(distance.max()),
        "differing_share": float(np.count_nonzero(distance)) / distance.size,
        "white_level": white_level,
    }


def _form(samples: "NDArray[Any]") -> str:
    return f"{samples.shape[1]} x {samples.shape[0]} with {(*samples.shape, 1)[2]} channels of {samples.dtype}"


def _write_difference(path: Path, one: "NDArray[Any]", other: "NDArray[Any]", white_level: float) -> None:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    from denoised._files import write_whole

    levels = (one.astype(np.float64) - other.astype(np.float64)) * (255.0 / white_level)
    picture = np.clip(np.rint(128.0 + _AMPLIFICATION * levels), 0, 255).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] in (2, 4):
        picture = picture[..., :-1]
    buffer = BytesIO()
    Image.fromarray(picture.squeeze()).save(buffer, "PNG")
    write_whole(path, buffer.getvalue())


def _write_page(path: Path, image: Path, reference: Path, figures: dict[str, Any]) -> None:
    from denoised._pictures import shown_picture
    from denoised.report import Figures, ReportEntry, write_report

    shown = Figures(psnr_after_db=figures["psnr_db"], ssim_after=figures["ssim"])
    entry = ReportEntry(
        str(image), shown_picture(reference), shown_picture(image), figures=shown, note=f"before: {reference}"
    )
    write_report(path, [entry], title="Compared images", lead=f"Before is {reference}, after is {image}.")
