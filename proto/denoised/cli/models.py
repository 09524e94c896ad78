"""``denoised models``: what the server has loaded."""

import json
from dataclasses import asdict

import click

from denoised._order import DEFAULT_TIMEOUT_S
from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import failures_in_one_line
from denoised.results import Model


@click.command()
@connection_options
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds, retries included.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each model.")
def models(
    connection: Connection,
    timeout_s: float,
    as_json: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """List the models that the server has loaded; * marks the default one."""
    with connection.client() as client, failures_in_one_line():
        loaded = client.models(timeout_s=timeout_s)
    if as_json:
        for model in loaded:
            click.echo(json.dumps(asdict(model)))
    else:
        click.echo(_table(loaded))


def _table(loaded: tuple[Model, ...]) -> str:
    rows = [("", "NAME", "VERSION", "KIND", "PRECISION", "CHANNELS", "SIZE", "SIGMA", "GMAC/MP", "LICENCE", "SUMMARY")]
    rows += [
        (
            "*" if model.is_default else "",
            model.name,
            model.version,
            model.kind,
            model.precision,
            str(model.channel_count),
            f"{model.fixed_side_px}x{model.fixed_side_px}" if model.fixed_side_px else "any",
            f"{model.sigma_min:g}-{model.sigma_max:g}",
            f"{model.gmac_per_megapixel:g}",
            model.license,
            model.summary,
        )
        for model in loaded
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
