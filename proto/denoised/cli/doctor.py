"""``denoised doctor``: why can't I connect? Each step towards an answer, one after the other, with what to do."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal
from urllib.request import getproxies, proxy_bypass

import click
import numpy as np

from denoised.cli.connection import Connection, connection_options
from denoised.cli.exits import Failed, Unreachable
from denoised.cli.probes import Place, Speech, addresses_of, places_of, spoken_at
from denoised.client import Client
from denoised.errors import DenoisedError, ServerUnavailableError
from denoised.results import Model, Server
from denoised.retry import RetryPolicy

_ONCE: Final = RetryPolicy(try_count=1)
_SIDE_PX: Final = 16
_MIB: Final = 2**20
# gRPC's own, besides those of the web.
_PROXY_NAMES: Final = ("grpc", "https", "http")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found."""

    state: Literal["ok", "note", "failed"]
    step: str
    text: str
    is_connecting: bool = True

    def __str__(self) -> str:
        return f"{self.state:<6}  {self.step:<8}  {self.text}"


@click.command()
@connection_options
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for each step.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each step.")
def doctor(
    connection: Connection,
    timeout_s: float,
    as_json: bool,  # noqa: FBT001 -- click passes options by name
) -> None:
    """Find out why a server can't be reached, or that it can: name, port, what is spoken, health, limits, an image.

    Stops at the first step that fails, and says what to do.

    \b
    Exit codes:
      0  a tiny image was denoised
      1  the server answers, but something is wrong
      2  the command was wrong
      3  no server answers
    """  # noqa: D301 -- click reads \b as "keep these lines as they are"
    failed = None
    for finding in _examine(connection, timeout_s):
        click.echo(json.dumps(asdict(finding)) if as_json else str(finding))
        if finding.state == "failed":
            failed = finding
    if failed is not None:
        sys.exit(Unreachable.exit_code if failed.is_connecting else Failed.exit_code)


def _examine(connection: Connection, timeout_s: float) -> Iterator[Finding]:
    """Until the first step that fails."""
    try:
        places = places_of(connection.target)
    except ValueError as error:
        yield Finding("note", "name", str(error))
    else:
        for step in _below_grpc(connection, places, timeout_s):
            yield step
            if step.state == "failed":
                return
    with connection.client(_ONCE) as client:
        yield from _by_grpc(client, timeout_s)


def _below_grpc(connection: Connection, places: tuple[Place, ...], timeout_s: float) -> Iterator[Finding]:
    proxies = getproxies()
    for place in places:
        names = [name for name in _PROXY_NAMES if name in proxies]
        if names and not proxy_bypass(place.host):
            yield Finding(
                "note",
                "proxy",
                f"{names[0]}_proxy is set, and gRPC goes through it; add {place.host} to no_proxy if it should not",
            )
        try:
            addresses = addresses_of(place)
        except OSError as error:
            yield Finding(
                "failed", "name", f"{place.host} is not known ({error}); check its spelling and this machine's DNS"
            )
            return
        yield Finding("ok", "name", f"{place.host} is {', '.join(address.host for address in addresses)}")
        yield from _at_addresses(connection, addresses, timeout_s)


def _at_addresses(connection: Connection, addresses: tuple[Place, ...], timeout_s: float) -> Iterator[Finding]:
    """One address that answers is enough."""
    refusals = []
    for address in addresses:
        try:
            speech = spoken_at(address, timeout_s)
        except OSError as error:
            refusals.append(f"{address} ({error.strerror or error})")
            continue
        if refusals:
            yield Finding("note", "port", f"closed: {', '.join(refusals)}")
        yield Finding("ok", "port", f"{address} is open")
        yield _about_speech(speech, address, is_secure=bool(connection.tls))
        return
    yield Finding(
        "failed",
        "port",
        f"closed: {', '.join(refusals)}; is the server started, is this its port, does a firewall let through?",
    )


def _about_speech(speech: Speech, address: Place, *, is_secure: bool) -> Finding:
    match speech, is_secure:
        case "gRPC", False:
            return Finding("ok", "speech", "HTTP/2 in plain text, as gRPC wants it")
        case "TLS", True:
            return Finding("ok", "speech", "TLS")
        case "gRPC", True:
            return Finding("failed", "speech", "it speaks plain text: leave --tls out, or name the port that has TLS")
        case "TLS", False:
            return Finding("failed", "speech", "it speaks TLS: add --tls, and --tls-ca for an authority of your own")
        case "something else", _:
            return Finding(
                "failed",
                "speech",
                f"{address} speaks no gRPC, as a port of web pages; name the service's gRPC port, 50051 unless set",
            )
    return Finding("failed", "speech", f"{address} takes connections and says nothing; is it a denoised service?")


def _by_grpc(client: Client, timeout_s: float) -> Iterator[Finding]:
    try:
        server = client.server(timeout_s=timeout_s)
    except ServerUnavailableError as error:
        yield Finding("failed", "answer", str(error))
        return
    except DenoisedError as error:
        yield Finding("failed", "answer", str(error), is_connecting=False)
        return
    if server.health == "NOT_SERVING":
        yield Finding("failed", "health", "it is starting or stopping, and takes no images now; try again soon")
        return
    yield Finding("ok", "health", server.health)
    yield _about_release(server)
    yield _about_limits(server)
    yield _about_image(client, server.models, timeout_s)


def _about_release(server: Server) -> Finding:
    if server.is_newer:
        return Finding(
            "note", "release", "newer than this client, which does not know all that it says; update the client"
        )
    if server.is_older:
        return Finding("note", "release", "older than this client, and does not tell its limits; update the server")
    return Finding("ok", "release", "it says all that this client asks, and nothing else")


def _about_limits(server: Server) -> Finding:
    limits = [
        *([f"messages of {server.message_bytes / _MIB:.3g} MiB"] if server.message_bytes else []),
        *([f"{server.image_pixels / 1e6:.3g} megapixels in one"] if server.image_pixels else []),
        *([f"{server.chunked_image_pixels / 1e6:.3g} megapixels in chunks"] if server.chunked_image_pixels else []),
    ]
    return Finding("ok", "limits", ", ".join(limits) or "not told")


def _about_image(client: Client, models: tuple[Model, ...], timeout_s: float) -> Finding:
    model = next((model for model in models if model.is_default), None)
    if model is None or "denoise" not in model.capabilities:
        return Finding("note", "image", "no model denoises unless one is named; denoised models lists them")
    side_px = model.fixed_side_px or _SIDE_PX
    samples = np.random.default_rng(1).integers(0, 256, (side_px, side_px), dtype=np.uint8)
    begun_s = time.perf_counter()
    try:
        result = client.clean(samples, timeout_s=timeout_s)
    except DenoisedError as error:
        return Finding("failed", "image", f"{error} ({error.reason})", is_connecting=False)
    took_ms = 1000 * (time.perf_counter() - begun_s)
    name = f"{result.model.name} {result.model.version}"
    return Finding("ok", "image", f"{side_px} x {side_px} pixels by {name} in {took_ms:.0f} ms there and back")
