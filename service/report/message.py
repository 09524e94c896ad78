"""The energy report as the API's message."""

from typing import Final

from denoised.statistics import Statistics, Sure
from denoised.v1 import denoised_pb2 as pb
from denoised.verdicts import Finding, Judgement, Verdict
from service.types import ReportLevel

_LEVELS: Final = {
    ReportLevel.NONE: pb.REPORT_LEVEL_NONE,
    ReportLevel.FAST: pb.REPORT_LEVEL_FAST,
    ReportLevel.SURE: pb.REPORT_LEVEL_SURE,
}
_VERDICTS: Final = {
    Verdict.OK: pb.VERDICT_OK,
    Verdict.OUT_OF_RANGE_SIGMA: pb.VERDICT_OUT_OF_RANGE_SIGMA,
    Verdict.NOISE_CORRELATED: pb.VERDICT_NOISE_CORRELATED,
    Verdict.CLIPPED_INPUT: pb.VERDICT_CLIPPED_INPUT,
    Verdict.HIGH_RECONSTRUCTION_ENERGY: pb.VERDICT_HIGH_RECONSTRUCTION_ENERGY,
    Verdict.TINTED: pb.VERDICT_TINTED,
    Verdict.ALREADY_CLEAN: pb.VERDICT_ALREADY_CLEAN,
}
# Fields that are called as their statistics are.
_SAME: Final = (
    "removed_fraction",
    "correlation_horizontal",
    "correlation_vertical",
    "neighbour_correlation",
    "channel_correlation",
    "clipped_share",
    "tail_score",
    "colour_bias",
    "reconstruction_bits_per_pixel",
    "compression_nats",
    "total_bits_per_pixel",
)


def report_message(
    *,
    level: ReportLevel,
    sampled_one_in: int,
    statistics: Statistics,
    judgement: Judgement,
    sure: tuple[Sure, tuple[int, ...]] | None,
    given_sigma: float | None,
    seed: int,
) -> bytes:
    """A serialised DenoiseResponse with nothing but the report.

    Args:
        sure: the estimate, and height and width of what it is of.
        given_sigma: the noise level that the request states.
        seed: of the estimate's signs.
    """
    findings = judgement.findings
    report = pb.EnergyReport(
        level=_LEVELS[level],
        sampled_one_in=sampled_one_in,
        verdicts=[_VERDICTS[verdict] for verdict in judgement.verdicts],
        noise_sigma=_statistic(findings["sigma"]),
        wavelet_sigma=_statistic(findings["wavelet_ratio"], value=statistics.wavelet_sigma),
        immerkaer_sigma=_statistic(findings["immerkaer_ratio"], value=statistics.immerkaer_sigma),
        channel_bias=statistics.colour_bias,
        complexity_bits_per_pixel=_statistic(findings["grey_bits_per_pixel"]),
    )
    for name in _SAME:
        if name in findings:
            getattr(report, name).CopyFrom(_statistic(findings[name]))
    if sure is not None:
        estimate, (height_px, width_px) = sure
        report.sure.CopyFrom(
            pb.Sure(
                mean_square_error=estimate.mse,
                psnr_db=estimate.psnr_db,
                noise_sigma=statistics.sigma if given_sigma is None else given_sigma,
                noise_sigma_is_given=given_sigma is not None,
                seed=seed,
                height_px=height_px,
                width_px=width_px,
            )
        )
    return pb.DenoiseResponse(energy=report).SerializeToString()


def left_out_message(sampled_one_in: int) -> bytes:
    """The same for an image that got no report because the server is busy."""
    return pb.DenoiseResponse(
        energy=pb.EnergyReport(level=pb.REPORT_LEVEL_NONE, sampled_one_in=sampled_one_in)
    ).SerializeToString()


def _statistic(finding: Finding, *, value: float | None = None) -> pb.Statistic:
    return pb.Statistic(
        value=finding.value if value is None else value,
        quantile=finding.quantile,
        threshold=finding.threshold,
        verdict=_VERDICTS[finding.verdict],
    )
