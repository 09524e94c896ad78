"""The energy report over real gRPC: one report for one image, whichever way it came, at every level."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from denoised import AsyncClient, Client
from denoised.cli import main
from denoised.statistics import measure
from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration import harness
from tests.integration.conftest import FRUGAL
from tests.integration.harness import RunningService, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import file_request, jpeg, noisy, png, raw_request, samples_of
from tests.integration.refusals import refusal_of_error
from tests.integration.streaming import Stream

_PICTURE = noisy(3, 200, 240)


def _with(request: pb.DenoiseRequest, **options: Any) -> pb.DenoiseRequest:
    copy = pb.DenoiseRequest()
    copy.CopyFrom(request)
    copy.options.MergeFrom(pb.DenoiseOptions(**options))
    return copy


FAST = _with(raw_request(_PICTURE), report_level=pb.REPORT_LEVEL_FAST)


def test_the_report_is_what_the_statistics_make_of_image_and_answer(stub: DenoiseServiceStub) -> None:
    response = stub.Denoise(FAST)
    unit, answer = (samples.astype(np.float32) / np.float32(255) for samples in (_PICTURE, samples_of(response.image)))
    expected = measure(unit, answer, network_sigma=response.report.noise_sigma)
    energy = response.energy
    assert energy.level == pb.REPORT_LEVEL_FAST
    assert energy.noise_sigma.value == pytest.approx(response.report.noise_sigma, rel=1e-5)
    assert energy.wavelet_sigma.value == pytest.approx(expected.wavelet_sigma, rel=1e-3)
    for name in ("removed_fraction", "clipped_share", "tail_score", "colour_bias"):
        assert getattr(energy, name).value == pytest.approx(expected.comparable()[name], rel=1e-3), name
    assert list(energy.channel_bias) == pytest.approx(list(expected.colour_bias), rel=1e-2, abs=1e-3)
    assert len(energy.verdicts) >= 1


async def test_every_way_gives_the_same_report(stub: DenoiseServiceStub, served: RunningService) -> None:
    alone = stub.Denoise(FAST)
    batch = stub.DenoiseBatch(pb.DenoiseBatchRequest(requests=[FAST, FAST]))
    stream = Stream(served.grpc_target)
    try:
        chunked = await stream.clean_chunked(FAST)
    finally:
        await stream.close()
    reports = [result.response.energy for result in batch.results] + [chunked.result.response.energy]
    assert all(report == alone.energy for report in reports)
    assert chunked.image == alone.image
    inspected = stub.Inspect(pb.InspectRequest(image=FAST.image))
    assert inspected.energy == alone.energy
    assert inspected.report == alone.report
    assert inspected.model == alone.model
    assert inspected.batching.tile_count == alone.batching.tile_count


async def test_looking_at_an_image_in_chunks_sends_nothing_back(
    stub: DenoiseServiceStub, served: RunningService
) -> None:
    only = _with(FAST, report_only=True)
    stream = Stream(served.grpc_target)
    try:
        chunked = await stream.clean_chunked(only)
    finally:
        await stream.close()
    assert chunked.data == b""
    assert not chunked.result.response.HasField("image")
    assert chunked.result.response.energy == stub.Denoise(FAST).energy


@pytest.mark.parametrize("encode", [png, jpeg])
def test_files_are_inspected_as_they_are_denoised(stub: DenoiseServiceStub, encode: Any) -> None:
    request = _with(file_request(encode(_PICTURE)), report_level=pb.REPORT_LEVEL_FAST)
    assert stub.Inspect(pb.InspectRequest(image=request.image)).energy == stub.Denoise(request).energy


def test_none_means_none_and_strength_zero_finds_nothing(stub: DenoiseServiceStub) -> None:
    for options in ({"report_level": pb.REPORT_LEVEL_NONE}, {"report_level": pb.REPORT_LEVEL_FAST, "strength": 0.0}):
        assert not stub.Denoise(_with(raw_request(_PICTURE), **options)).HasField("energy")


def test_sure_is_near_the_true_error_for_noise_of_known_level(stub: DenoiseServiceStub) -> None:
    clean = np.full((160, 160, 3), 120, np.uint8)
    clean[:, 80:] = 150
    picture = np.clip(np.rint(clean + np.random.default_rng(2).standard_normal(clean.shape) * 15), 0, 255)
    request = _with(raw_request(picture.astype(np.uint8)), report_level=pb.REPORT_LEVEL_SURE, noise_sigma=15.0)
    response = stub.Denoise(request)
    error = float(np.mean((samples_of(response.image) / 255.0 - clean / 255.0) ** 2))
    sure = response.energy.sure
    assert sure.noise_sigma_is_given
    assert (sure.height_px, sure.width_px) == (160, 160)
    # Of 76,800 samples: the estimate's own spread is a twentieth of the noise's variance at the most.
    assert sure.mean_square_error == pytest.approx(error, abs=0.05 * (15 / 255) ** 2)
    assert (
        stub.Inspect(
            pb.InspectRequest(
                image=request.image, options=pb.InspectOptions(report_level=pb.REPORT_LEVEL_SURE, noise_sigma=15.0)
            )
        ).energy
        == response.energy
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"noise_sigma": 0.0}, "options.noise_sigma"),
        ({"noise_sigma": float("nan")}, "options.noise_sigma"),
        ({"noise_sigma": 300.0}, "options.noise_sigma"),
        ({"report_level": 9}, "options.report_level"),
        ({"report_level": pb.REPORT_LEVEL_NONE, "report_only": True}, "options.report_level"),
    ],
)
def test_options_out_of_range_are_refused(stub: DenoiseServiceStub, options: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Denoise(_with(raw_request(_PICTURE), **options))
    refusal = refusal_of_error(caught.value)
    assert refusal.reason == "OPTION_INVALID"
    assert refusal.field == field


def test_what_was_found_is_in_the_metrics(stub: DenoiseServiceStub, served: RunningService) -> None:
    before = served.metrics()
    model = stub.Inspect(pb.InspectRequest(image=FAST.image)).model
    after = served.metrics()
    labels = {"model": model.name, "version": model.version}

    def grown(name: str, **more: str) -> float:
        return after.value(name, **labels, **more) - before.value(name, **labels, **more)

    assert grown("denoised_energy_reports_total", level="fast") == 1
    assert grown("denoised_energy_quantile_count", statistic="removed_fraction") == 1
    assert after.value("denoised_requests_total", method="Inspect", code="OK") >= 1


def test_the_clients_and_the_command_line_inspect(served: RunningService, tmp_path: Path) -> None:
    file = tmp_path / "noisy.png"
    file.write_bytes(png(_PICTURE))
    with Client(served.grpc_target) as client:
        result = client.inspect(file, report_level="sure", noise_sigma=20.0)
        cleaned = client.clean(_PICTURE, report_level="fast")
        assert client.clean(_PICTURE, report_level="none").energy is None
    assert cleaned.energy is not None
    assert cleaned.energy.statistics == result.energy.statistics
    assert result.energy.sure is not None
    run = CliRunner().invoke(main, ["inspect", str(file), "--server", served.grpc_target, "--json"])
    assert run.exit_code == 0, run.output
    shown = json.loads(run.output)
    assert shown["verdicts"] == list(result.energy.verdicts)
    assert shown["statistics"]["compression_nats"] is None
    assert shown["statistics"]["noise_sigma"]["value"] == result.energy.statistics["noise_sigma"].value
    table = CliRunner().invoke(main, ["inspect", str(file), str(file), "--server", served.grpc_target])
    assert table.exit_code == 0, table.output
    assert table.output.count("noise sigma") == 2
    assert "undefined  (the model has no latent code)" in table.output


async def test_the_async_client_inspects(served: RunningService) -> None:
    async with AsyncClient(served.grpc_target) as client:
        result = await client.inspect(_PICTURE)
    assert result.energy.level == "fast"
    assert result.noise_sigma == pytest.approx(result.energy.statistics["noise_sigma"].value, rel=1e-5)


def test_an_image_that_fits_no_message_is_inspected_in_chunks(frugal: RunningService) -> None:
    picture = noisy(4, 2200, 2300, 1)
    with Client(frugal.grpc_target) as client:
        told: list[float] = []
        large = client.inspect(picture, on_progress=told.append)
    assert large.energy.level == "fast"
    assert told[-1] == 1.0


@pytest.fixture
def unasked(light: Oracle, light_store: Path, tmp_path: Path) -> Iterator[RunningService]:
    settings = FRUGAL | {"models_dir": light_store, "default_model": light.contract.name}
    with harness.running(tmp_path, **(settings | {"report_share": 0, "report_one_in": 3})) as service:
        yield service


def test_a_busy_service_makes_one_report_in_k_and_says_so(unasked: RunningService) -> None:
    request = raw_request(noisy(5, 64, 64, 1))
    with connected(unasked.grpc_target) as stub:
        energies = [stub.Denoise(request).energy for _ in range(6)]
    assert [energy.level for energy in energies] == [pb.REPORT_LEVEL_NONE] * 2 + [pb.REPORT_LEVEL_FAST] + [
        pb.REPORT_LEVEL_NONE
    ] * 2 + [pb.REPORT_LEVEL_FAST]
    assert {energy.sampled_one_in for energy in energies} == {3}
