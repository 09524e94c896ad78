"""``denoised models``: what the server has loaded."""

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
def models(connection: Connection, timeout_s: float) -> None:
    """List the models that the server has loaded; * marks the default one."""
    with connection.client() as client, failures_in_one_line():
        click.echo(_table(client.models(timeout_s=timeout_s)))


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
