"""``denoised encode``, ``decode``, ``generate`` and ``interpolate``: what models with a latent code can do.

Codes lie in files of NumPy (``.npy``), images in PNG or JPEG files.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from denoised._files import CONTAINER_OF_SUFFIX, write_whole
from denoised._latents import PictureOptions
from denoised._order import DEFAULT_TIMEOUT_S, SERVICE_CLASSES
from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, failures_in_one_line
from denoised.results import AnyImage, ModelReference, Timings

_CODE_SUFFIX = ".npy"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_ServiceClass = Literal["interactive", "normal", "bulk"] | None


def _output_option(what: str) -> Callable[[CommandT], CommandT]:
    return click.option(
        "-o", "--output", "target", metavar="OUT", required=True, type=click.Path(path_type=Path), help=what
    )


def _latent_options(command: CommandT) -> CommandT:
    """What all four commands have."""
    options = (
        connection_options,
        click.option("--model", default="", help="Name of the model.  [default: the server's choice]"),
        click.option("--class", "service_class", type=click.Choice(list(SERVICE_CLASSES)), help="As for clean."),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0, min_open=True),
            default=DEFAULT_TIMEOUT_S,
            show_default=True,
            help="Seconds, retries included.",
        ),
    )
    decorated: Any = command
    for option in reversed(options):
        decorated = option(decorated)
    made: CommandT = decorated
    return made


_far_option = click.option(
    "--allow-out-of-distribution",
    is_flag=True,
    help="Decode a code that is further from the model's than any image's should be.",
)


@click.command()
@click.argument("source", metavar="IN", type=_FILE)
@_output_option("File for the code, .npy.")
@click.option("--half", "half_precision", is_flag=True, help="Write 16-bit numbers.")
@_latent_options
def encode(
    source: Path,
    target: Path,
    connection: Connection,
    model: str,
    service_class: _ServiceClass,
    timeout_s: float,
    half_precision: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Write the latent code of an image.

    \b
    Example:
      denoised encode digit.png -o digit.npy --model digits-8px-vae
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    if target.suffix != _CODE_SUFFIX:
        raise click.UsageError(f"output {target} ends in {target.suffix or 'nothing'!r}; name a file {_CODE_SUFFIX}")
    with connection.client() as client, failures_in_one_line():
        result = client.encode(
            source, half_precision=half_precision, timeout_s=timeout_s, model=model, service_class=service_class
        )
        buffer = io.BytesIO()
        np.save(buffer, result.code)
        write_whole(target, buffer.getvalue())
    distance = "" if result.prior_distance is None else f", {result.prior_distance:.2f} from the middle of the codes"
    click.echo(f"{target}: {result.code.size} numbers{distance}, {_made_by(result.timings, result.model)}")


@click.command()
@click.argument("source", metavar="CODE", type=_FILE)
@_output_option("File for the image, .png or .jpg.")
@_far_option
@_latent_options
def decode(
    source: Path,
    target: Path,
    connection: Connection,
    model: str,
    service_class: _ServiceClass,
    timeout_s: float,
    allow_out_of_distribution: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Write the image of a latent code.

    \b
    Example:
      denoised decode digit.npy -o digit.png --model digits-8px-vae
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    container = CONTAINER_OF_SUFFIX.get(target.suffix.lower())
    if container is None:
        raise click.UsageError(
            f"output {target} ends in {target.suffix or 'nothing'!r}; one of {', '.join(CONTAINER_OF_SUFFIX)} chooses "
            "the format"
        )
    with connection.client() as client, failures_in_one_line():
        result = client.decode(
            _read_code(source),
            allow_out_of_distribution=allow_out_of_distribution,
            timeout_s=timeout_s,
            output_container=container,
            model=model,
            service_class=service_class,
        )
        _write(target, result.image)
    click.echo(f"{target}: {_made_by(result.timings, result.model)}")


@click.command()
@_output_option("Folder for the images, 000.png and following.")
@click.option("-n", "--count", "image_count", type=int, default=1, show_default=True, help="How many.")
@click.option("--seed", type=int, help="Gives the same images again.  [default: the server's choice]")
@click.option("--temperature", type=float, help="0..2; less than 1 gives more typical images.  [default: 1]")
@_latent_options
def generate(
    target: Path,
    connection: Connection,
    model: str,
    service_class: _ServiceClass,
    timeout_s: float,
    image_count: int,
    seed: int | None,
    temperature: float | None,
) -> None:
    """Write new images.

    \b
    Example:
      denoised generate -n 16 --seed 1 -o samples/ --model digits-8px-vae
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    with connection.client() as client, failures_in_one_line():
        result = client.generate(
            image_count,
            seed=seed,
            temperature=temperature,
            timeout_s=timeout_s,
            **_pictures(model, service_class),
        )
        _write_all(target, result.images)
    click.echo(f"{target}: {len(result.images)} images of seed {result.seed}, {_made_by(result.timings, result.model)}")


@click.command()
@click.argument("start", type=_FILE)
@click.argument("stop", type=_FILE)
@_output_option("Folder for the images, 000.png and following.")
@click.option("--steps", "step_count", type=int, default=8, show_default=True, help="How many images, ends included.")
@_far_option
@_latent_options
def interpolate(
    start: Path,
    stop: Path,
    target: Path,
    connection: Connection,
    model: str,
    service_class: _ServiceClass,
    timeout_s: float,
    step_count: int,
    allow_out_of_distribution: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Write the images on the way from START to STOP, image files or codes (.npy).

    \b
    Example:
      denoised interpolate three.png eight.png --steps 12 -o way/ --model digits-8px-vae
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    with connection.client() as client, failures_in_one_line():
        result = client.interpolate(
            *(_read_code(end) if end.suffix == _CODE_SUFFIX else end for end in (start, stop)),
            step_count=step_count,
            allow_out_of_distribution=allow_out_of_distribution,
            timeout_s=timeout_s,
            **_pictures(model, service_class),
        )
        _write_all(target, result.images)
    way = "an arc" if result.spherical else "a straight way"
    click.echo(f"{target}: {len(result.images)} images on {way}, {_made_by(result.timings, result.model)}")


def _pictures(model: str, service_class: _ServiceClass) -> PictureOptions:
    return PictureOptions(model=model, service_class=service_class, output_container="png")


def _read_code(path: Path) -> NDArray[Any]:
    try:
        code: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Failed(f"{path} is no file of NumPy ({_CODE_SUFFIX}): {error}") from error
    return code


def _write(target: Path, image: AnyImage) -> None:
    assert isinstance(image, bytes)
    write_whole(target, image)


def _write_all(folder: Path, images: Sequence[AnyImage]) -> None:
    for index, image in enumerate(images):
        _write(folder / f"{index:03d}.png", image)


def _made_by(timings: Timings, model: ModelReference) -> str:
    return f"{timings.total_s:.3f} s with {model.name} {model.version}"
