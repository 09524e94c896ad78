"""Asks the service for everything that the page shows, over gRPC as anybody would, and measures what came back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised import Client
from denoised.contract import ModelContract
from denoised.statistics import measure
from service.demo.latent.digits import Digits, Picture, outliers

GENERATOR: Final = "digits-8px-vae"
AUTOENCODER: Final = "digits-8px-ae"
SAMPLE_COUNT: Final = 64
STEP_COUNT: Final = 11
# Of held-out images one in a hundred has more energy than this quantile.
FLAGGED_FROM: Final = 0.99
_STATISTIC: Final = "reconstruction_bits_per_pixel"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images from a seed.

    Attributes:
        is_repeated: whether the same seed gave the same bytes a second time, among other calls.
    """

    seed: int
    temperature: float
    pictures: Sequence[Picture]
    is_repeated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """The way between two pictures by one model.

    Attributes:
        largest_step: the largest mean change from one picture to the next, in 8-bit levels.
        direct_change: that from the first to the last.
    """

    model: str
    pictures: Sequence[Picture]
    is_spherical: bool
    largest_step: float
    direct_change: float


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """A picture through one model's code and back.

    Attributes:
        reconstruction_nats, compression_nats: its energy; the sum is minus the evidence lower bound of a variational
            model.
        quantile: share of held-out images with less reconstruction energy.
    """

    answer: Picture
    reconstruction_nats: float
    compression_nats: float | None
    quantile: float

    @property
    def is_flagged(self) -> bool:
        return self.quantile >= FLAGGED_FROM


@dataclass(frozen=True, slots=True, eq=False)
class Through:
    """A picture and what each model made of it."""

    name: str
    picture: Picture
    is_outlier: bool
    by_model: dict[str, Reconstruction]


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Codes of held-out digits on the plane in which they differ most.

    Attributes:
        points: (N, 2).
        labels: (N,).
        explained_share: of the codes' variance.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.intp]
    explained_share: float


@dataclass(frozen=True, slots=True, eq=False)
class Scenes:
    """All that the page shows."""

    samples: Sequence[Samples]
    ways: Sequence[Way]
    through: Sequence[Through]
    flagged_shares: dict[str, float]
    map: Map


def play(client: Client, contracts: dict[str, ModelContract], digits: Digits, *, seed: int) -> Scenes:
    """Everything, from a service that has both models loaded."""
    chosen = digits.first_of_each()
    strange = outliers(digits)
    pictures = {f"a {label}": digits.pictures[index] for label, index in enumerate(chosen)} | strange
    held_out = {name: [_through(client, contract, p) for p in digits.pictures] for name, contract in contracts.items()}
    return Scenes(
        samples=[_samples(client, seed, temperature) for temperature in (1.0, 0.6)],
        ways=[
            _way(client, name, digits.pictures[chosen[start]], digits.pictures[chosen[stop]])
            for start, stop in ((3, 8), (0, 6))
            for name in contracts
        ],
        through=[
            Through(name, picture, name in strange, {m: _through(client, c, picture) for m, c in contracts.items()})
            for name, picture in pictures.items()
        ],
        flagged_shares={name: float(np.mean([each.is_flagged for each in all_])) for name, all_ in held_out.items()},
        map=_map(client, digits),
    )


def _samples(client: Client, seed: int, temperature: float) -> Samples:
    first, second = (
        client.generate(count, seed=seed, temperature=temperature, model=GENERATOR)
        for count in (SAMPLE_COUNT, SAMPLE_COUNT // 2)
    )
    pairs = zip(first.images, second.images, strict=False)
    is_repeated = all(np.array_equal(one, other) for one, other in pairs)
    return Samples(first.seed, temperature, [_picture(image) for image in first.images], is_repeated)


def _way(client: Client, model: str, start: Picture, stop: Picture) -> Way:
    result = client.interpolate(start, stop, step_count=STEP_COUNT, model=model)
    pictures = [_picture(image) for image in result.images]
    levels = np.stack(pictures).astype(np.float64)
    return Way(
        model,
        pictures,
        result.spherical,
        largest_step=float(np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2)).max()),
        direct_change=float(np.abs(levels[-1] - levels[0]).mean()),
    )


def _through(client: Client, contract: ModelContract, picture: Picture) -> Reconstruction:
    encoded = client.encode(picture, model=contract.name)
    # A picture that is no digit may have a code that is none of a digit.
    answer = _picture(client.decode(encoded.code, allow_out_of_distribution=True, model=contract.name).image)
    statistics = measure(_units(picture), _units(answer), model=contract.calibration.energy_model())
    quantile = contract.calibration.quantile_of(_STATISTIC, statistics.comparable()[_STATISTIC], statistics.sigma)
    return Reconstruction(answer, statistics.energy.reconstruction_nats, encoded.compression_nats, quantile)


def _map(client: Client, digits: Digits) -> Map:
    codes = np.stack([client.encode(picture, model=GENERATOR).code for picture in digits.pictures]).astype(np.float64)
    centred = codes - codes.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    variances = lengths**2
    return Map(centred @ directions[:2].T, digits.labels, float(variances[:2].sum() / variances.sum()))


def _picture(image: NDArray[np.uint8] | bytes) -> Picture:
    assert isinstance(image, np.ndarray)
    return image


def _units(picture: Picture) -> NDArray[np.float32]:
    """(H, W, 1) in 0..1."""
    return (picture.astype(np.float32) / np.float32(255))[..., np.newaxis]
