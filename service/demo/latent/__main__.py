"""Starts a service with the demonstration models, asks it for all that codes are good for, and writes a page."""

import signal
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from denoised import Client, DenoisedError
from denoised.contract import MODEL_FILE, ModelContract
from service.demo.latent.digits import held_out_digits
from service.demo.latent.page import page_of
from service.demo.latent.scenes import AUTOENCODER, GENERATOR, Scenes, Through, play
from service.demo.process import ServiceFailedError, running_service
from service.engine import EngineOptions, OnnxEngine

MODELS_DIR: Final = Path(__file__).parent / "models"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder of the page.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the generated digits.")
def main(output: Path, seed: int) -> None:
    """Show what models with a latent code can do.

    Starts the service on free ports with two small models of digits, calls Encode, Decode, Generate and Interpolate,
    writes a page, and stops the service again.

    \b
    Example:
      python -m service.demo.latent --seed 7
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    # As an exception, so that the service is stopped on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        _run(output / "latent.html", seed)
    except (ServiceFailedError, DenoisedError) as error:
        raise click.ClickException(str(error)) from error


def _run(page: Path, seed: int) -> None:
    contracts = {name: _contract_of(name) for name in (GENERATOR, AUTOENCODER)}
    click.echo("Starting the service ...")
    with running_service(models_dir=MODELS_DIR, default_model=GENERATOR) as service:
        click.echo(f"It listens at {service.grpc_target}.")
        with Client(service.grpc_target) as client:
            scenes = play(client, contracts, held_out_digits(), seed=seed)
    page.parent.mkdir(parents=True, exist_ok=True)
    names = " and ".join(f"{name} {contract.version}" for name, contract in contracts.items())
    page.write_text(page_of(scenes, lead=f"Made over gRPC by {names}."), encoding="utf-8")
    click.echo(f"\n{_table(scenes)}\n\nThe page: {page.resolve()}\n")
    click.echo("The service was stopped by SIGTERM and exited with 0.")


def _contract_of(name: str) -> ModelContract:
    """Of the newest version in the demo's store."""
    newest = max((MODELS_DIR / name).glob(f"*/{MODEL_FILE}"), key=lambda path: int(path.parent.name))
    return OnnxEngine(newest, EngineOptions(lane_count=1)).contract


def _table(scenes: Scenes) -> str:
    rows = [("PICTURE", "MODEL", "RECONSTRUCTION, NATS", "CODE, NATS", "QUANTILE", "")]
    rows += [cells for row in scenes.through for cells in _rows(row)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _rows(through: Through) -> list[tuple[str, str, str, str, str, str]]:
    return [
        (
            through.name,
            model,
            f"{made.reconstruction_nats:.1f}",
            "undefined" if made.compression_nats is None else f"{made.compression_nats:.1f}",
            f"{made.quantile:.3f}",
            "flagged" if made.is_flagged else "",
        )
        for model, made in through.by_model.items()
    ]


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    main(prog_name="python -m service.demo.latent")
