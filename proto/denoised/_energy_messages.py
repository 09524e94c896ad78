"""The energy report as the client hands it back: plain frozen values, no protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from denoised.v1 import denoised_pb2 as pb


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of a report, and how unusual it is.

    Attributes:
        value: the number.
        quantile: share of held-out images of like noise with a smaller one, 0..1; None where the model was not
            calibrated for it.
        threshold: the value above which ``verdict`` is no longer ``OK``; None where none follows from it.
        verdict: as in ``EnergyReport.verdicts``; empty when this client doesn't know it.
    """

    value: float
    quantile: float | None
    threshold: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class SureEstimate:
    """The answer's error, estimated without the clean image, from the image's middle.

    Attributes:
        mean_square_error: of values in 0..1; may come out at or below 0.
        psnr_db: the same as PSNR; None where the error is not positive.
        noise_sigma: the noise level that it was made with, in 8-bit levels.
        noise_sigma_is_given: whether the caller stated it; with one that was found only comparisons mean something.
        seed: of the random signs.
        height_px, width_px: of the part that was looked at.
    """

    mean_square_error: float
    psnr_db: float | None
    noise_sigma: float
    noise_sigma_is_given: bool
    seed: int
    height_px: int
    width_px: int


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """An image and its denoised form in numbers; docs/energy.md says what they mean.

    Attributes:
        level: ``fast`` or ``sure``; ``none`` when the server was busy and left this image out.
        sampled_one_in: k when the server was busy and made a report for one image in k; 0 when for every one.
        verdicts: what is the matter, such as ``NOISE_CORRELATED``; ``OK`` alone when nothing is. Those that this client
            doesn't know are left out.
        statistics: by the names that ``denoised.v1.EnergyReport`` gives them; those that are undefined for the model or
            the image are not there.
        channel_bias: mean of what was removed in each channel, in 8-bit levels.
        sure: of level ``sure`` alone.
    """

    level: str
    sampled_one_in: int
    verdicts: tuple[str, ...]
    statistics: Mapping[str, Statistic]
    channel_bias: tuple[float, ...]
    sure: SureEstimate | None


# In the order of the message; ``denoised inspect`` shows them so.
STATISTIC_NAMES: Final = tuple(
    field.name
    for field in pb.EnergyReport.DESCRIPTOR.fields
    if field.message_type is not None and field.message_type.name == "Statistic"
)


def energy_report(message: pb.EnergyReport) -> EnergyReport:
    """The message in the client's terms."""
    return EnergyReport(
        level=_LEVELS.get(message.level, ""),
        sampled_one_in=message.sampled_one_in,
        verdicts=tuple(_VERDICTS[number] for number in message.verdicts if number in _VERDICTS),
        statistics={name: _statistic(getattr(message, name)) for name in STATISTIC_NAMES if message.HasField(name)},
        channel_bias=tuple(message.channel_bias),
        sure=_sure(message.sure) if message.HasField("sure") else None,
    )


def _statistic(message: pb.Statistic) -> Statistic:
    return Statistic(
        value=message.value,
        quantile=message.quantile if message.HasField("quantile") else None,
        threshold=message.threshold if message.HasField("threshold") else None,
        verdict=_VERDICTS.get(message.verdict, ""),
    )


def _sure(message: pb.Sure) -> SureEstimate:
    return SureEstimate(
        mean_square_error=message.mean_square_error,
        psnr_db=message.psnr_db if message.HasField("psnr_db") else None,
        noise_sigma=message.noise_sigma,
        noise_sigma_is_given=message.noise_sigma_is_given,
        seed=message.seed,
        height_px=message.height_px,
        width_px=message.width_px,
    )


_LEVELS: Final = {pb.REPORT_LEVEL_NONE: "none", pb.REPORT_LEVEL_FAST: "fast", pb.REPORT_LEVEL_SURE: "sure"}
_VERDICTS: Final[dict[int, str]] = {
    number: name.removeprefix("VERDICT_") for name, number in pb.Verdict.items() if number
}
