"""Starts a service, sends it noisy photographs from several clients, prints what was gained, writes a page."""

import signal
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from denoised import ServerUnavailableError
from denoised.report import Figures, ReportEntry, write_report
from service.demo.pictures import NoPicturesError, entry_of, own_pictures, shipped_pictures
from service.demo.process import ServiceFailedError, running_service
from service.demo.traffic import send

_METRICS_SHOWN: Final = (
    "denoised_requests_total",
    "denoised_images_total",
    "denoised_batch_requests_sum",
    "denoised_batch_requests_count",
    "denoised_batch_clients_sum",
    "denoised_batch_releases_total",
)

_TABLE_NOTE: Final = (
    "NOISE: standard deviation in 8-bit levels. MS: median time in the service, waiting for the other clients included."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of your own noisy PNG and JPEG files, taken as they are. Without it: photographs from "
    "scikit-image with noise added, so that the gain can be measured.",
)
@click.option("--limit", type=click.IntRange(1), default=12, show_default=True, help="Most files taken from --images.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder of the page.",
)
@click.option("--clients", "client_count", type=click.IntRange(1, 64), default=4, show_default=True, help="Clients.")
@click.option(
    "--rounds",
    "round_count",
    type=click.IntRange(1, 1000),
    help="How often each image is sent.  [default: 3, with --images 1]",
)
def main(images: Path | None, limit: int, output: Path, client_count: int, round_count: int | None) -> None:
    """Show the service at work.

    Starts it on free ports, sends photographs through gRPC, prints a table, writes a page with a slider between
    before and after for each of them, and stops the service again.

    \b
    Examples:
      python -m service.demo
      python -m service.demo --images ~/noisy-photos --output /tmp/mine
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    # As an exception, so that the service is stopped on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        _run(images, limit, output / "index.html", client_count, round_count)
    except (NoPicturesError, ServiceFailedError, ServerUnavailableError) as error:
        raise click.ClickException(str(error)) from error


def _run(images: Path | None, limit: int, page: Path, client_count: int, round_count: int | None) -> None:
    pictures = shipped_pictures() if images is None else own_pictures(images, limit=limit)
    rounds = round_count or (3 if images is None else 1)
    click.echo("Starting the service ...")
    with running_service() as service:
        click.echo(
            f"It listens at {service.grpc_target}. {client_count} clients send it {len(pictures)} images "
            f"in {rounds} round{'' if rounds == 1 else 's'} ..."
        )
        outcomes = send(pictures, target=service.grpc_target, client_count=client_count, round_count=rounds)
        metrics = _metrics(service.http_url)
    done = [(picture, outcome.results) for picture, outcome in zip(pictures, outcomes, strict=True) if outcome.results]
    if done:
        entries = [entry_of(picture, results) for picture, results in done]
        model = done[0][1][0].model
        lead = f"{client_count} clients sent them over gRPC at once; {model.name} {model.version} removed the noise."
        write_report(page, entries, title="denoised: before and after", lead=lead)
        click.echo(f"\n{_table(entries)}\n\n{_TABLE_NOTE}\n\nBefore and after, with sliders: {page.resolve()}\n")
    click.echo(f"From {service.http_url}/metrics:\n{metrics}\n")
    click.echo("The service was stopped by SIGTERM and exited with 0.")
    failures = [(picture.name, outcome.error) for picture, outcome in zip(pictures, outcomes, strict=True)]
    failures = [(name, error) for name, error in failures if error is not None]
    if failures:
        raise click.ClickException("\n".join(f"{name}: {error}" for name, error in failures))


def _metrics(http_url: str) -> str:
    """What the service counted of requests and batches, as it exposes it; what did not happen is left out."""
    with urllib.request.urlopen(f"{http_url}/metrics", timeout=10) as response:  # noqa: S310 -- our own http:// URL
        lines = response.read().decode().splitlines()
    # Series exist from the start, for each method and each end that a call can have: most are 0.
    shown = (line for line in lines if line.startswith(_METRICS_SHOWN) and not line.endswith(" 0.0"))
    return "\n".join(f"  {line}" for line in shown)


def _table(entries: Sequence[ReportEntry]) -> str:
    rows = [("IMAGE", "PIXELS", "NOISE ADDED, FOUND", "PSNR, dB", "SSIM", "MS", "ITS LARGEST BATCH")]
    rows += [
        (entry.name, f"{entry.before.shape[1]}x{entry.before.shape[0]}", *_cells(entry.figures)) for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cells(figures: Figures) -> tuple[str, str, str, str, str]:
    gain = "" if figures.gain_db is None else f" ({figures.gain_db:+.2f})"
    return (
        _pair(figures.sigma_added, figures.sigma_found, ".1f"),
        _pair(figures.psnr_before_db, figures.psnr_after_db, ".2f") + gain,
        _pair(figures.ssim_before, figures.ssim_after, ".3f"),
        f"{figures.total_ms:.0f}",
        _batch(figures.shared_request_count or 0, figures.shared_client_count or 0),
    )


def _batch(request_count: int, client_count: int) -> str:
    if request_count <= 1:
        return "alone"
    return f"{request_count} requests of {client_count} client{'' if client_count == 1 else 's'}"


def _pair(before: float | None, after: float | None, form: str) -> str:
    known = [format(value, form) for value in (before, after) if value is not None]
    return " -> ".join(known) or "unknown"


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    main(prog_name="python -m service.demo")
