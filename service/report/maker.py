"""Makes energy reports: decides which image gets one, and computes it in a codec's thread once its tiles have run.

A report is work like any other: it is foretold to admission, waits its turn among codec jobs and lanes, ends at the
image's deadline, and is dropped when nobody waits for the image any more.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import structlog

from denoised.contract import ModelContract
from denoised.statistics import SAMPLE_LIMIT, Code, EnergyModel, Statistics, Sure, as_delivered, measure_blocks, sure_of
from denoised.verdicts import Judgement, judge, ranks
from service.admission import Demand
from service.cost import CostModel
from service.errors import CapabilityMissing, DeadlineExceeded
from service.geometry import geometry_of
from service.image_task import ImageTask, ImageTasks
from service.image_tiles import TiledImage
from service.job import Geometry, Job, Options
from service.metrics import Metrics
from service.registry import Model
from service.report.budget import ReportBudget, report_cost_s
from service.report.message import report_message
from service.report.passes import CodePass, SurePasses
from service.report.samples import SURE_SIDE_PX, ReportSamples
from service.submission import Group
from service.types import Container, ImageHeader, ReportLevel

_log = structlog.get_logger()

# In the metrics, in place of its level.
_FAILED: Final = "failed"
# Of SURE's random signs: any will do, and one makes the estimate a function of the image.
_SURE_SEED: Final = 0
_FLOAT_BITS: Final = 32


@dataclass(frozen=True, eq=False)
class ReportPlan:
    """A report that an image will get.

    Attributes:
        level: fast or sure.
        sampled_one_in: k where this image was drawn for k; 0 where every image gets one.
        height_px, width_px: of the image.
        channels: the network's.
        held_bytes: the most memory that it takes.
        codec_s: predicted seconds of a codec's thread.
        lane_s, unit_count, pixel_count: what it asks of the lanes besides the image: predicted seconds of one, units,
            and their pixels.
        sure: how the middle of the image is cut for SURE; None without.
    """

    level: ReportLevel
    sampled_one_in: int
    height_px: int
    width_px: int
    channels: int
    held_bytes: int
    codec_s: float
    lane_s: float
    unit_count: int
    pixel_count: int
    sure: Geometry | None

    @cached_property
    def samples(self) -> ReportSamples:
        """What lanes put aside; made when it is first asked for, which is once the image is let in."""
        middle_px = None if self.sure is None else (self.sure.header.height_px, self.sure.header.width_px)
        return ReportSamples(
            height_px=self.height_px, width_px=self.width_px, channels=self.channels, middle_px=middle_px
        )

    def added_to(self, demand: Demand) -> Demand:
        """What the image and its report ask of the service together."""
        return demand._replace(
            pixel_count=demand.pixel_count + self.pixel_count,
            held_bytes=demand.held_bytes + self.held_bytes,
            cost_s=demand.cost_s + self.lane_s,
            unit_count=demand.unit_count + self.unit_count,
            codec_s=demand.codec_s + self.codec_s,
        )


class ReportMaker:
    """Makes reports for all models. Owned by the event loop's thread."""

    def __init__(
        self,
        *,
        budget: ReportBudget,
        tasks: ImageTasks,
        costs: CostModel,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._budget = budget
        self._tasks = tasks
        self._costs = costs
        self._clock = clock
        self._metrics = metrics
        self._energy_models: dict[str, EnergyModel] = {}
        self._draw = random.Random().random  # noqa: S311 -- where in a heap of equal values an image is counted

    def plan(self, header: ImageHeader, model: Model, options: Options) -> ReportPlan | None:
        """What an image's report will take; None of an image that gets none.

        Raises:
            CapabilityMissing: SURE is asked of a network that can't be probed.
        """
        level = options.report_level
        if level is ReportLevel.NONE or options.strength == 0.0:
            return None
        channels = model.contract.channels
        sample_count = min(header.pixel_count * channels, SAMPLE_LIMIT)
        cost_s, one_in = report_cost_s(sample_count), 0
        if level is ReportLevel.UNSPECIFIED:
            level = ReportLevel.FAST
            has_one, is_drawn = self._budget.take(cost_s, self._clock())
            if not has_one:
                return None
            one_in = self._budget.one_in if is_drawn else 0
        sure = self._sure_geometry(header, model, options) if level is ReportLevel.SURE else None
        lane_s, unit_count, pixel_count = self._lane_demand(sure, model)
        middle_px = None if sure is None else (sure.header.height_px, sure.header.width_px)
        return ReportPlan(
            level=level,
            sampled_one_in=one_in,
            height_px=header.height_px,
            width_px=header.width_px,
            channels=channels,
            held_bytes=ReportSamples.held_bytes(header.pixel_count, channels, middle_px=middle_px),
            codec_s=cost_s,
            lane_s=lane_s,
            unit_count=unit_count,
            pixel_count=pixel_count,
            sure=sure,
        )

    async def make(self, job: Job, plan: ReportPlan, tiles: TiledImage, header: ImageHeader, task: ImageTask) -> bytes:
        """The report as a serialised DenoiseResponse; once all tiles have run.

        Empty when it fails: that is logged and counted, and the image has its answer all the same.

        Raises:
            DeadlineExceeded: no time is left for it, nor for the image's answer.
            Exception: what it failed by, where nothing but the report is asked for.
        """
        try:
            return await self._made(job, plan, tiles, header, task)
        except DeadlineExceeded:
            raise
        except Exception:
            contract = job.order.model.contract
            self._metrics.energy_reports[contract.name, contract.version, _FAILED].inc()
            if job.order.options.report_only:
                raise
            _log.exception("a report failed, its image is answered without one", model=contract.name)
            return b""

    def forget(self) -> None:
        """Other models are served from now on."""
        self._energy_models.clear()

    async def _made(self, job: Job, plan: ReportPlan, tiles: TiledImage, header: ImageHeader, task: ImageTask) -> bytes:
        model, options = job.order.model, job.order.options
        code = await self._code(job, plan, task)
        passes = await self._sure_passes(job, plan, task)
        sigma, steps = tiles.noise_sigma, _steps(tiles, header)
        energy_model = self._energy_model(model)

        def measured() -> tuple[Statistics, Judgement, Sure | None, dict[str, float]]:
            statistics = measure_blocks(
                plan.samples.noisy,
                as_delivered(plan.samples.denoised, steps=steps, clip=tiles.scale.clip),
                pixel_count=header.pixel_count,
                network_sigma=sigma,
                code=code,
                model=energy_model,
            )
            estimate = None if passes is None else _sure(passes, options.noise_sigma or statistics.sigma)
            quantiles = ranks(statistics, model.contract.calibration, self._draw)
            return statistics, judge(statistics, model.contract), estimate, quantiles

        started_s = self._clock()
        statistics, judgement, estimate, quantiles = await self._tasks.in_codec(
            job, plan.samples.noisy[:, 0].size, plan.codec_s, measured
        )
        self._show(model.contract, plan.level, judgement, quantiles, self._clock() - started_s)
        return report_message(
            level=plan.level,
            sampled_one_in=plan.sampled_one_in,
            statistics=statistics,
            judgement=judgement,
            sure=None if estimate is None or passes is None else (estimate, passes.noisy.shape[:2]),
            given_sigma=options.noise_sigma,
            seed=_SURE_SEED,
        )

    def _show(
        self,
        contract: ModelContract,
        level: ReportLevel,
        judgement: Judgement,
        quantiles: dict[str, float],
        seconds: float,
    ) -> None:
        metrics, key = self._metrics, (contract.name, contract.version)
        metrics.energy_reports[*key, level.value].inc()
        metrics.energy_report_seconds.observe(seconds)
        for verdict in judgement.verdicts:
            metrics.energy_verdicts[*key, verdict.value].inc()
        for name, quantile in quantiles.items():
            metrics.energy_quantiles[*key, name].observe(quantile)

    def _lane_demand(self, sure: Geometry | None, model: Model) -> tuple[float, int, int]:
        lane_s, unit_count, pixel_count = 0.0, 0, 0
        if sure is not None:
            group, unit_count = sure.group, 2 * sure.plan.tile_count
            pixel_count = unit_count * sure.plan.tile_pixel_count
            lane_s = unit_count * self._costs.predict_s(group.model, group.height_px, group.width_px)
        if model.halves is not None:
            side_px = model.contract.fixed_side_px
            unit_count, pixel_count = unit_count + 1, pixel_count + side_px * side_px
            lane_s += self._costs.predict_s(model.encoder_key, side_px, side_px)
        return lane_s, unit_count, pixel_count

    def _sure_geometry(self, header: ImageHeader, model: Model, options: Options) -> Geometry:
        contract = model.contract
        if contract.precision != "fp32":
            raise CapabilityMissing(
                f"SURE needs a network in fp32 and {contract.name!r} is served in {contract.precision}, whose answers "
                "move in steps; ask for the fast report, or another server for SURE"
            )
        side_px = max(SURE_SIDE_PX, contract.fixed_side_px)
        middle = replace(
            header,
            container=Container.RAW,
            height_px=min(header.height_px, side_px),
            width_px=min(header.width_px, side_px),
        )
        return geometry_of(middle, model, replace(options, output_container=None))

    async def _code(self, job: Job, plan: ReportPlan, task: ImageTask) -> Code | None:
        """Of a network with an encoder, whose images are one unit."""
        model, contract = job.order.model, job.order.model.contract
        if model.halves is None:
            return None
        side_px = contract.fixed_side_px
        group = Group(model.encoder_key, contract.channels, side_px, side_px, is_widened=False)
        code_pass = CodePass(plan.samples.noisy[0])
        await self._tasks.run(job, code_pass, group, 1, task)
        assert code_pass.answer is not None
        return Code(code_pass.answer.mean, code_pass.answer.log_variance)

    async def _sure_passes(self, job: Job, plan: ReportPlan, task: ImageTask) -> SurePasses | None:
        if plan.sure is None:
            return None
        assert plan.samples.middle is not None
        passes = SurePasses(plan.samples.middle, plan=plan.sure.plan, seed=_SURE_SEED)
        await self._tasks.run(job, passes, plan.sure.group, passes.unit_count, task)
        return passes

    def _energy_model(self, model: Model) -> EnergyModel:
        found = self._energy_models.get(model.digest)
        if found is None:
            found = self._energy_models[model.digest] = model.contract.calibration.energy_model()
        return found


def _sure(passes: SurePasses, sigma: float) -> Sure:
    return sure_of(passes.noisy, *passes.answers, passes.signs, sigma=sigma)


def _steps(tiles: TiledImage, header: ImageHeader) -> float | None:
    """Steps of the image's samples from black to white; None of floats."""
    scale = tiles.scale
    return None if header.bits == _FLOAT_BITS else scale.white_level - scale.black_level
