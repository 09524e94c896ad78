"""Reports on every way through the service, with lanes and a clock in the test's hands."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from denoised.contract import ModelContract
from denoised.statistics import measure
from denoised.v1 import denoised_pb2 as pb
from service.errors import CapabilityMissing, ImageTooLarge
from service.job import Job, Options
from service.metrics import Metrics
from service.types import Container, ReportLevel, Samples
from tests.unit.denoised.test_verdicts import CALIBRATION, ROWS
from tests.unit.service.denoiser_bench import LARGE, SIGMA, SMALL, Bench, HeldCodecs, noise, png

FAST = Options(report_level=ReportLevel.FAST)
DEFAULT = Options(report_level=ReportLevel.UNSPECIFIED)


@pytest.fixture
def bench(contract: ModelContract, metrics: Metrics) -> Bench:
    return Bench(contract, metrics)


def energy_of(bench: Bench, job: Job) -> pb.EnergyReport:
    response = pb.DenoiseResponse.FromString(bench.outcome(job).energy)
    assert [field.name for field, _ in response.ListFields()] == ["energy"]
    return response.energy


def expected(picture: Samples) -> dict[str, float]:
    """Of the network that shows the negative."""
    unit = picture.astype(np.float32) / np.float32(255)
    return measure(unit, 1 - unit, network_sigma=SIGMA * 255).comparable()


@pytest.mark.parametrize("shape", [SMALL, LARGE, (*LARGE[:2], 1)])
@pytest.mark.parametrize("is_file", [False, True])
async def test_a_report_is_of_the_whole_image_and_its_answer(
    bench: Bench,
    shape: tuple[int, int, int],
    is_file: bool,  # noqa: FBT001 -- pytest passes parameters by name
) -> None:
    picture = noise(shape)
    job = bench.file_job(png(picture), FAST) if is_file else bench.raw_job(picture, FAST)
    await bench.answers(job)
    report = energy_of(bench, job)
    assert report.level == pb.REPORT_LEVEL_FAST
    assert report.sampled_one_in == 0
    assert report.noise_sigma.value == pytest.approx(SIGMA * 255, rel=1e-5)
    network_sees: Any = picture if shape[2] == 3 else np.repeat(picture, 3, axis=2)
    for name, value in expected(network_sees).items():
        if hasattr(report, name):
            assert getattr(report, name).value == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert report.HasField("channel_correlation") == (shape[2] == 3)
    assert not report.HasField("compression_nats")


@pytest.mark.parametrize("is_file", [False, True])
async def test_the_answer_is_the_same_with_and_without(
    bench: Bench,
    is_file: bool,  # noqa: FBT001 -- pytest passes parameters by name
) -> None:
    picture = noise(LARGE)
    make: Any = bench.file_job if is_file else bench.raw_job
    data: Any = png(picture) if is_file else picture
    with_report, without = await bench.answers(make(data, FAST), make(data))
    assert bytes(with_report.data) == bytes(without.data)
    assert with_report.findings is not None
    assert without.energy == b""


async def test_strength_changes_the_answer_and_not_the_report(bench: Bench) -> None:
    picture = noise(LARGE)
    whole, half = bench.raw_job(picture, FAST), bench.raw_job(picture, replace(FAST, strength=0.5))
    await bench.answers(whole, half)
    assert energy_of(bench, whole) == energy_of(bench, half)


async def test_nothing_is_said_of_an_image_that_was_not_looked_at(bench: Bench) -> None:
    job = bench.file_job(png(noise(LARGE)), replace(FAST, strength=0.0, output_container=Container.JPEG))
    await bench.answers(job)
    assert bench.outcome(job).energy == b""


async def test_an_image_that_is_only_looked_at_has_no_answer(bench: Bench) -> None:
    picture, only = noise(LARGE), replace(FAST, report_only=True)
    jobs = [bench.raw_job(picture, only), bench.file_job(png(picture), only), bench.raw_job(noise(SMALL), only)]
    for outcome in await bench.answers(*jobs):
        assert bytes(outcome.data) == b""
        assert outcome.energy


async def test_without_a_report_nothing_is_planned_put_aside_or_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for a report")

    monkeypatch.setattr("service.report.maker.ReportSamples", never)
    monkeypatch.setattr("service.report.budget.ReportBudget.take", never)
    jobs = [bench.raw_job(noise(SMALL)), bench.raw_job(noise(LARGE)), bench.file_job(png(noise(LARGE)))]
    for outcome in await bench.answers(*jobs):
        assert outcome.energy == b""
    assert not bench.metrics.energy_reports
    assert not bench.metrics.energy_quantiles


async def test_when_the_budget_is_used_up_one_image_in_k_gets_a_report_that_says_so(bench: Bench) -> None:
    jobs = [bench.raw_job(noise(SMALL, seed=seed), DEFAULT) for seed in range(6)]
    await bench.answers(*jobs)
    energies = [bench.outcome(job).energy for job in jobs]
    assert [bool(energy) for energy in energies] == [False, False, True] * 2
    assert energy_of(bench, jobs[2]).sampled_one_in == 3


async def test_a_level_that_is_stated_is_kept_when_the_budget_is_used_up(bench: Bench) -> None:
    jobs = [bench.raw_job(noise(SMALL, seed=seed), FAST) for seed in range(4)]
    await bench.answers(*jobs)
    assert all(energy_of(bench, job).sampled_one_in == 0 for job in jobs)


async def test_sure_estimates_the_error_from_two_more_passes(bench: Bench) -> None:
    picture = noise(LARGE)
    job = bench.raw_job(picture, replace(FAST, report_level=ReportLevel.SURE, noise_sigma=20.0))
    await bench.answers(job)
    sure = energy_of(bench, job).sure
    assert (sure.height_px, sure.width_px) == LARGE[:2]
    assert sure.noise_sigma == 20.0
    assert sure.noise_sigma_is_given
    # The network's answer is 1 - y: each value moves against its own input by as much.
    unit = picture.astype(np.float64) / 255
    variance = (20.0 / 255) ** 2
    assert sure.mean_square_error == pytest.approx(np.mean((1 - 2 * unit) ** 2) - 3 * variance, rel=1e-3)


async def test_sure_takes_a_grey_image_as_one_channel(bench: Bench) -> None:
    picture = noise((*LARGE[:2], 1))
    job = bench.raw_job(picture, replace(FAST, report_level=ReportLevel.SURE, noise_sigma=20.0))
    await bench.answers(job)
    unit = picture.astype(np.float64) / 255
    expected_error = np.mean((1 - 2 * unit) ** 2) - 3 * (20.0 / 255) ** 2
    assert energy_of(bench, job).sure.mean_square_error == pytest.approx(expected_error, rel=1e-3)


async def test_sure_is_refused_of_a_network_that_answers_in_steps(contract: ModelContract, metrics: Metrics) -> None:
    bench = Bench(replace(contract, precision="int8"), metrics)
    job = bench.raw_job(noise(SMALL), replace(FAST, report_level=ReportLevel.SURE))
    with pytest.raises(CapabilityMissing, match="int8"):
        bench.denoiser.start(job)
    assert not bench.has_room_taken


async def test_a_report_that_breaks_leaves_the_image_its_answer(
    bench: Bench, contract: ModelContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError("what nobody foresaw")

    monkeypatch.setattr("service.report.maker.judge", broken)
    picture = noise(LARGE)
    reported, plain, only = (
        bench.raw_job(picture, FAST),
        bench.raw_job(picture),
        bench.raw_job(picture, replace(FAST, report_only=True)),
    )
    bench.start(reported, plain, only)
    await bench.run_all()
    assert bytes(bench.outcome(reported).data) == bytes(bench.outcome(plain).data)
    assert bench.outcome(reported).energy == b""
    assert isinstance(bench.end(only), ArithmeticError), "it asked for nothing else"
    assert bench.metrics.energy_reports[contract.name, contract.version, "failed"].value == 2


async def test_an_image_that_is_refused_has_nothing_put_aside(
    contract: ModelContract, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("there is no room for the image, let alone for its report")

    monkeypatch.setattr("service.report.maker.ReportSamples.__init__", never)
    bench = Bench(contract, metrics, memory_bytes=10**4)
    with pytest.raises(ImageTooLarge):
        bench.denoiser.start(bench.raw_job(noise(LARGE), FAST))
    assert not bench.has_room_taken


async def test_the_ledger_holds_room_for_a_report_until_the_call_is_over(bench: Bench) -> None:
    plain, reported = bench.raw_job(noise(LARGE)), bench.raw_job(noise(LARGE), FAST)
    bench.start(plain)
    without = bench.admission.reserved_bytes
    bench.start(reported)
    assert bench.admission.reserved_bytes - without == without + 2 * np.prod(LARGE) * 4
    await bench.run_all()
    for job in (plain, reported):
        bench.denoiser.close(job)
    assert not bench.has_room_taken


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 100])
async def test_an_image_can_be_closed_at_any_time(bench: Bench, turns: int) -> None:
    job = bench.raw_job(noise(LARGE), replace(FAST, report_level=ReportLevel.SURE))
    bench.start(job)
    for _ in range(turns):
        await bench.settle()
        if bench.lanes[0].batches:
            bench.lanes[0].turn()
    bench.denoiser.close(job)
    await bench.run_all()
    assert not bench.has_room_taken


async def test_an_image_that_is_closed_in_a_codecs_thread_gives_its_room_back_when_that_is_done(
    contract: ModelContract, metrics: Metrics
) -> None:
    clock = Bench(contract, metrics).clock
    codecs = HeldCodecs(clock=clock, metrics=metrics)
    bench = Bench(contract, Metrics(CollectorRegistry()), clock=clock, codecs=codecs)
    try:
        job = bench.raw_job(noise(SMALL), FAST)
        bench.start(job)
        await bench.run_all()
        await codecs.wait_begun()
        bench.denoiser.close(job)
        await bench.settle()
        assert bench.has_room_taken
        codecs.let_go()
        await bench.until(lambda: not bench.has_room_taken)
        assert not bench.ends[job]
    finally:
        codecs.let_go()
        codecs.close()


async def test_metrics_show_verdicts_and_quantiles(contract: ModelContract, metrics: Metrics) -> None:
    bench = Bench(replace(contract, calibration=CALIBRATION), metrics)
    await bench.answers(bench.raw_job(noise(LARGE), FAST))
    key = (contract.name, contract.version)
    assert metrics.energy_reports[*key, "fast"].value == 1
    # The negative of noise is unlike anything.
    assert metrics.energy_verdicts[*key, "HIGH_RECONSTRUCTION_ENERGY"].value == 1
    assert {statistic for _, _, statistic in metrics.energy_quantiles} == set(ROWS)
    assert all(histogram.cumulative()[-1][1] == 1 for histogram in metrics.energy_quantiles.values())
