"""What an evaluation found, as data: one score for each method, image and noise level; means, intervals, tables.

It knows neither networks nor files of pictures; ``measure`` fills it, ``report`` and ``compare`` show it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from denoised.quality import (
    DETAIL_DEFINITION,
    INTERVAL_DEFINITION,
    METRIC_DEFINITION,
    PSNR_CEILING_DB,
    Interval,
    mean_interval,
)
from training.errors import DataError

NETWORK: Final = "network"
NOISY: Final = "noisy"
DEFINITIONS: Final = (
    f"{METRIC_DEFINITION}; equal images count as {PSNR_CEILING_DB:g} dB. {DETAIL_DEFINITION}. {INTERVAL_DEFINITION}"
)

Protocol = Literal["gaussian", "own_noise", "pairs"]


@dataclass(frozen=True, slots=True)
class Score:
    """One method's answer for one image at one noise level.

    Attributes:
        method: ``network``, ``noisy`` for the input itself, or the name of a baseline.
        file: the image, relative to its set.
        level: noise level, see :class:`Evaluation`.
        psnr_db: against the clean image.
        ssim, detail: None where the image is too small for them.
        sigma_found: mean of the network's own noise map in 8-bit levels, or None without one.
    """

    # A network that answers with what is no number has no PSNR, and its file must say so.
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    method: str
    file: str
    level: float
    psnr_db: float
    ssim: float | None = None
    detail: float | None = None
    sigma_found: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Which network was measured, so that a report stands for itself.

    Attributes:
        run: its name.
        kind: the family of network.
        step: that the weights are from.
        weights: ``best`` by the run's own selection, or ``last``.
        code_length: numbers in the code, or None without one.
        training_data_digest: of the packed images.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    run: str
    kind: str
    step: int
    weights: str
    code_length: int | None
    training_data_digest: str


@dataclass(frozen=True, slots=True)
class Probe:
    """How well a linear classifier reads the labels off codes, and off as many principal components.

    Attributes:
        code_length: of both.
        train_count, test_count: images.
        class_count: distinct labels.
        network_accuracy, pca_accuracy: shares of test images that were named rightly.
        network_low, network_high, pca_low, pca_high: ends of their 95 % intervals (Wilson).
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    code_length: int
    train_count: int
    test_count: int
    class_count: int
    network_accuracy: float
    network_low: float
    network_high: float
    pca_accuracy: float
    pca_low: float
    pca_high: float


@dataclass(frozen=True, slots=True)
class PlanePoint:
    """The code of one image, where codes have two numbers."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture that belongs to the evaluation; the file lies in the run's folder of samples."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    file: str
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of a network on one set of images.

    Attributes:
        image_set: name of the set.
        metric: definitions of all figures.
        scores: for every method, image and level.
        protocol: what the levels are. ``gaussian``: standard deviations in 8-bit levels of the benchmark's clipped
            noise, 0 for clean input. ``own_noise``: severities 0..1 within the ranges of the run's own noise.
            ``pairs``: 0 for all; the noise is in the files.
        noise: what was added, in words; evaluations of unlike noise are not compared.
        origin: what was measured.
        probe: of the codes, where there are labels.
        figures: pictures.
        plane: codes of the images, where codes have two numbers.
        samples_digest: SHA-256 of the images' names and pixels, so that others under the same names are noticed.
        notes: what was left out, and why.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    image_set: str
    metric: str
    scores: tuple[Score, ...]
    protocol: Protocol = "gaussian"
    noise: str = ""
    origin: Origin | None = None
    probe: Probe | None = None
    figures: tuple[Figure, ...] = ()
    plane: tuple[PlanePoint, ...] = ()
    samples_digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """What its files are called."""
        return stem_of(self.image_set, self.protocol)

    def levels(self) -> list[float]:
        return sorted({score.level for score in self.scores})

    def level_name(self, level: float) -> str:
        """A level for people, such as ``25`` or ``severity 0.5``."""
        if self.protocol == "pairs":
            return "as recorded"
        return f"severity {level:g}" if self.protocol == "own_noise" else f"{level:g}"

    def methods(self) -> list[str]:
        """The input first, baselines by their order of appearance, the network last."""
        names = list(dict.fromkeys(score.method for score in self.scores))
        return sorted(names, key=lambda name: (name == NETWORK) - (name == NOISY))

    def files(self) -> list[str]:
        return sorted({score.file for score in self.scores})

    def at(self, level: float, method: str = NETWORK) -> list[Score]:
        """The scores of a method at a level, by file."""
        return sorted((s for s in self.scores if s.level == level and s.method == method), key=lambda s: s.file)

    def interval(self, level: float, value: Callable[[Score], float | None], method: str = NETWORK) -> Interval | None:
        """Mean of one figure over the images, with its interval; None where no image has that figure."""
        values = [found for score in self.at(level, method) if (found := value(score)) is not None]
        return mean_interval(values) if values else None

    def mean(self, level: float, value: Callable[[Score], float | None], method: str = NETWORK) -> float:
        """Mean of one figure over the images at a level; not a number where no image has it."""
        found = self.interval(level, value, method)
        return float("nan") if found is None else found.mean

    def quality_db(self) -> dict[str, float]:
        """Mean PSNR by the level's name, as the model file carries it."""
        return {self.level_name(level): round(self.mean(level, psnr_of), 2) for level in self.levels()}

    def worst(self, level: float, count: int) -> list[Score]:
        """The images with the lowest PSNR; those with none come first."""
        return sorted(self.at(level), key=lambda score: (not math.isnan(score.psnr_db), score.psnr_db))[:count]

    def table(self) -> str:
        """The means as Markdown: one row for each level, PSNR of every method beside the network's."""
        others = [name for name in self.methods() if name != NETWORK]
        heads = [
            {"gaussian": "sigma", "own_noise": "noise", "pairs": "noise"}[self.protocol],
            *(f"{name} PSNR" for name in others),
            "PSNR",
            "noisy SSIM",
            "SSIM",
            "detail kept",
            "sigma found",
        ]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for level in self.levels():
            cells = [
                self.level_name(level),
                *(_text(self.interval(level, psnr_of, name), ".2f") for name in others),
                _text(self.interval(level, psnr_of), ".2f", spread=True),
                _text(self.interval(level, ssim_of, NOISY), ".3f"),
                _text(self.interval(level, ssim_of), ".3f"),
                _text(self.interval(level, detail_of), ".2f"),
                _text(self.interval(level, lambda score: score.sigma_found), ".1f"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: it is no evaluation, or one of another release.
        """
        return _ADAPTER.validate_json(text)


_ADAPTER: Final = TypeAdapter(Evaluation)


def load_evaluation(path: Path) -> Evaluation:
    """Reads a file of scores.

    Raises:
        DataError: it is missing or no evaluation of this release.
    """
    try:
        return Evaluation.from_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the text"
        raise DataError(f"{path} is no evaluation of this release ({where}: {first['msg']}); evaluate again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the evaluation {path}: {error}") from error


def stem_of(image_set: str, protocol: Protocol) -> str:
    """What the files of an evaluation are called: each protocol has its own, so that none replaces another."""
    return image_set if protocol == "gaussian" else f"{image_set}.{protocol}"


def headline_level(levels: Sequence[float]) -> float:
    """The level whose worst images are shown: sigma 25 where there is one, else the middle."""
    return 25.0 if 25.0 in levels else sorted(levels)[len(levels) // 2]


def psnr_of(score: Score) -> float | None:
    return score.psnr_db


def ssim_of(score: Score) -> float | None:
    return score.ssim


def detail_of(score: Score) -> float | None:
    return score.detail


def _text(interval: Interval | None, form: str, *, spread: bool = False) -> str:
    if interval is None:
        return "-"
    half = "" if not spread or interval.high is None else f" ± {interval.high - interval.mean:{form}}"
    return f"{interval.mean:{form}}{half}"
