"""What was estimated of a network on images without clean truth, as data; ``no_reference`` makes it.

Nothing here is a figure against truth, and every name and definition says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from pydantic import ConfigDict, TypeAdapter

from denoised.quality import INTERVAL_DEFINITION, Interval, mean_interval
from training.errors import DataError
from training.evaluation.scores import Figure, Origin

DEFINITIONS: Final = (
    "Estimates without clean truth. Noise found: by the network, or from image and residual, in 8-bit levels. Removed: "
    "mean squared residual over the noise's variance; about 0.9 for a good denoiser, above 1 where image was removed. "
    "Residual correlation: with the next neighbour to the right and below; 0 for white noise, large for correlated "
    "noise or removed detail. SURE: Stein's unbiased risk estimate as PSNR, for white unclipped noise of known level; "
    "with a level that was found rather than given, only differences between networks mean something. Repeats: PSNR "
    "of the answer against the mean of endless frames, from a second frame of the same scene, for independent noise "
    f"of equal strength in both. {INTERVAL_DEFINITION}"
)


@dataclass(frozen=True, slots=True)
class Estimates:
    """One noisy image.

    Attributes:
        file: relative to its set.
        sigma: noise level in 8-bit levels, given or found.
        removed_fraction, correlation_horizontal, correlation_vertical, clipped_share: see ``denoised.statistics``.
        sure_psnr_db: None where the estimated error is not positive.
        repeat_psnr_db, repeat_noisy_psnr_db: of the answer and of the input, by a second frame; None without one, or
            where the estimated error is not positive.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    file: str
    sigma: float
    removed_fraction: float
    correlation_horizontal: float
    correlation_vertical: float
    clipped_share: float
    sure_psnr_db: float | None
    repeat_psnr_db: float | None
    repeat_noisy_psnr_db: float | None


@dataclass(frozen=True, slots=True)
class NoReference:
    """All estimates of a network on one set of noisy images.

    Attributes:
        image_set: name of the set.
        definitions: of the figures, with what they assume.
        sigma_given: the level that the caller vouched for, or None where each was found.
        estimates: by image.
        origin: what was measured.
        figures: pictures.
        notes: what was left out, and why.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    image_set: str
    definitions: str
    sigma_given: float | None
    estimates: tuple[Estimates, ...]
    origin: Origin | None = None
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return self.image_set

    def interval(self, value: Callable[[Estimates], float | None]) -> Interval | None:
        """Mean of one figure with its interval; None where no image has it."""
        values = [found for estimates in self.estimates if (found := value(estimates)) is not None]
        return mean_interval(values) if values else None

    def rows(self) -> list[tuple[str, Interval | None, str]]:
        """(name, mean, format) of every figure."""
        return [
            ("noise found" if self.sigma_given is None else "noise given", self.interval(lambda e: e.sigma), ".1f"),
            ("removed", self.interval(lambda e: e.removed_fraction), ".3f"),
            ("residual correlation, horizontal", self.interval(lambda e: e.correlation_horizontal), ".3f"),
            ("residual correlation, vertical", self.interval(lambda e: e.correlation_vertical), ".3f"),
            ("share of clipped samples", self.interval(lambda e: e.clipped_share), ".4f"),
            ("SURE, as PSNR in dB (estimate)", self.interval(lambda e: e.sure_psnr_db), ".2f"),
            ("input by repeats, PSNR in dB (estimate)", self.interval(lambda e: e.repeat_noisy_psnr_db), ".2f"),
            ("answer by repeats, PSNR in dB (estimate)", self.interval(lambda e: e.repeat_psnr_db), ".2f"),
        ]

    def table(self) -> str:
        """The means as Markdown."""
        lines = ["| estimate | mean | 95 % interval | images |", "|---|---|---|---|"]
        for name, interval, form in self.rows():
            if interval is None:
                continue
            span = "-" if interval.low is None else f"{interval.low:{form}} to {interval.high:{form}}"
            lines.append(f"| {name} | {interval.mean:{form}} | {span} | {interval.count} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> "NoReference":
        """Reads what :meth:`to_json` wrote; raises ValueError for anything else."""
        return _ADAPTER.validate_json(text)


_ADAPTER: Final = TypeAdapter(NoReference)


def load_no_reference(path: Path) -> NoReference:
    """Raises DataError when the file is missing or holds something else."""
    try:
        return NoReference.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no estimates of this release ({error}); evaluate again") from error
