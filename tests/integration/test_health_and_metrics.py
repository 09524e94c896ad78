"""What operators see: health, reflection, models, metrics, request ids and logs of a running service."""

import json

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from denoised.v1 import denoised_pb2 as pb
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from tests.integration.harness import CHANNEL_OPTIONS, RunningService
from tests.integration.oracle import Oracle
from tests.integration.pictures import file_request, noisy, png, raw_request
from tests.integration.refusals import refused, trailer
from tests.integration.watching import health_of

_SERVICE = "denoised.v1.DenoiseService"
_STAGES = ("admission", "decode", "queue", "compute", "encode", "total")


@pytest.mark.parametrize("name", ["", _SERVICE, "live"])
def test_health_says_serving(name: str, served: RunningService) -> None:
    with grpc.insecure_channel(served.grpc_target, CHANNEL_OPTIONS) as channel:
        answer = health_of(channel).Check(health_pb2.HealthCheckRequest(service=name))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_knows_no_other_service(served: RunningService) -> None:
    with grpc.insecure_channel(served.grpc_target, CHANNEL_OPTIONS) as channel:
        refusal = refused(lambda: health_of(channel).Check(health_pb2.HealthCheckRequest(service="other")))

    assert refusal.code == "NOT_FOUND"


def test_reflection_lists_the_service_and_describes_its_methods(served: RunningService) -> None:
    with grpc.insecure_channel(served.grpc_target, CHANNEL_OPTIONS) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        methods = DescriptorPool(database).FindServiceByName(_SERVICE).methods_by_name

    assert {_SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    assert set(methods) == {method.name for method in pb.DESCRIPTOR.services_by_name["DenoiseService"].methods}


def test_a_method_that_does_not_exist_is_unimplemented(served: RunningService) -> None:
    with grpc.insecure_channel(served.grpc_target, CHANNEL_OPTIONS) as channel:
        sharpen = channel.unary_unary(
            f"/{_SERVICE}/Sharpen", pb.DenoiseRequest.SerializeToString, pb.DenoiseResponse.FromString
        )
        refusal = refused(lambda: sharpen(pb.DenoiseRequest()))

    assert refusal.code == "UNIMPLEMENTED"


def test_the_models_are_listed_with_the_server_s_limits(stub: DenoiseServiceStub, oracle: Oracle) -> None:
    listed = stub.ListModels(pb.ListModelsRequest())
    contract = oracle.contract
    model = next(model for model in listed.models if model.is_default)

    assert model.reference == pb.ModelReference(name=contract.name, version=contract.version, digest=oracle.digest)
    assert (model.channel_count, model.clips_input, model.license) == (
        contract.channels,
        contract.noise.clip,
        contract.license,
    )
    # As 32-bit floats.
    assert model.sigma_min == pytest.approx(contract.noise.sigma_min, rel=1e-6)
    assert model.sigma_max == pytest.approx(contract.noise.sigma_max, rel=1e-6)
    assert (listed.limits.message_bytes, listed.limits.image_pixels, listed.limits.batch_image_count) == (
        16 * 2**20,
        64_000_000,
        64,
    )
    for name, version in (("", ""), (contract.name, ""), (contract.name, contract.version)):
        assert stub.GetModel(pb.GetModelRequest(name=name, version=version)).model == model


def test_a_model_that_is_not_loaded_is_not_found(stub: DenoiseServiceStub) -> None:
    refusal = refused(lambda: stub.GetModel(pb.GetModelRequest(name="no-such")))

    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")


def test_an_image_is_counted_once_everywhere(served: RunningService, stub: DenoiseServiceStub, oracle: Oracle) -> None:
    before = served.metrics()
    response = stub.Denoise(file_request(png(noisy(1, 800, 60))))
    after = served.metrics()

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    model = {"model": oracle.contract.name, "version": oracle.contract.version}
    assert grown("denoised_requests_total", method="Denoise", code="OK") == 1
    assert grown("denoised_images_total", **model) == 1
    assert grown("denoised_pixels_total") == 800 * 60
    assert grown("denoised_computed_pixels_total") > 800 * 60
    assert grown("denoised_image_pixels_count") == 1
    assert grown("denoised_noise_sigma_levels_sum") == pytest.approx(response.report.noise_sigma, rel=1e-4)
    for stage in _STAGES:
        assert grown("denoised_stage_seconds_count", stage=stage) == 1
    total_s = response.timings.total.ToTimedelta().total_seconds()
    assert grown("denoised_stage_seconds_sum", stage="total") == pytest.approx(total_s, abs=1e-3)
    batches = grown("denoised_batch_units_count")
    assert grown("denoised_batch_units_sum") == response.batching.tile_count
    for histogram in ("batch_wait_seconds", "batch_seconds", "batch_stitch_seconds"):
        assert grown(f"denoised_{histogram}_count") == batches
    extra = grown("denoised_halo_pixels_total") + grown("denoised_padding_pixels_total")
    assert grown("denoised_computed_pixels_total") == 800 * 60 + extra
    assert grown("denoised_codec_wait_seconds_count") == 2
    releases = [grown("denoised_batch_releases_total", reason=why) for why in ("full", "lane_share", "no_more")]
    assert sum(releases) == batches


def test_metrics_name_the_state_the_lanes_and_the_model(served: RunningService, oracle: Oracle) -> None:
    metrics = served.metrics()

    assert metrics.value("denoised_state", state="serving") == 1
    assert metrics.value("denoised_state", state="draining") == 0
    assert metrics.value("denoised_lanes") == 2
    contract = oracle.contract
    assert (
        metrics.value("denoised_model_info", model=contract.name, version=contract.version, digest=oracle.digest) == 1
    )
    assert metrics.value("process_resident_memory_bytes") > 0


@pytest.mark.parametrize(("path", "status", "text"), [("/healthz", 200, "ok\n"), ("/readyz", 200, "ready\n")])
def test_probes_are_answered(path: str, status: int, text: str, served: RunningService) -> None:
    assert served.http(path) == (status, text)


def test_other_pages_do_not_exist(served: RunningService) -> None:
    assert served.http("/")[0] == 404


def test_a_refusal_carries_the_caller_s_request_id_and_is_logged_under_it(
    served: RunningService, stub: DenoiseServiceStub
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Denoise(raw_request(noisy(1, 9, 9), strength=7.0), metadata=[("x-request-id", "mine-1")])

    assert trailer(caught.value, "x-request-id") == "mine-1"
    lines = [json.loads(line) for line in served.log().splitlines()]
    (line,) = (line for line in lines if line.get("request_id") == "mine-1")
    assert (line["event"], line["reason"], line["method"]) == ("refused", "OPTION_INVALID", "Denoise")


@pytest.mark.parametrize("request_id", [None, "a b", "x" * 65])
def test_a_request_id_that_is_missing_or_odd_is_replaced(
    request_id: str | None, served: RunningService, stub: DenoiseServiceStub
) -> None:
    metadata = [] if request_id is None else [("x-request-id", request_id)]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Denoise(pb.DenoiseRequest(), metadata=metadata)

    given = trailer(caught.value, "x-request-id")
    assert given
    assert given != request_id
    assert f'"{given}"' in served.log()
