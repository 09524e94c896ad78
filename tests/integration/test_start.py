"""From nothing to SERVING: what others see meanwhile, and how a service that can't start says why."""

import json
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from denoised.contract import MODEL_FILE
from service.demo.process import log_of
from tests.integration import harness
from tests.integration.harness import LIMIT_S, RunningService, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, raw_request
from tests.integration.refusals import Refusal, refused
from tests.integration.watching import watched


@dataclass(frozen=True, slots=True)
class Birth:
    """What a start looked like from outside.

    Attributes:
        pages_before: status of /readyz and /healthz while the models were loaded.
        states: what Health.Watch said of the service, up to SERVING.
        refusal_before: what Denoise said while Health.Watch said something else than SERVING; None if it never did.
        readyz_after: status of /readyz at the end.
    """

    pages_before: tuple[int, int]
    states: tuple[int, ...]
    refusal_before: Refusal | None
    readyz_after: int


@pytest.fixture(scope="module")
def birth(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Birth:
    folder = tmp_path_factory.mktemp("birth")
    grpc_port, http_port = _free_ports(2)
    target = f"127.0.0.1:{grpc_port}"
    settings = {"grpc_port": grpc_port, "http_port": http_port, "lane_count": 1}
    with watched(target, "denoised.v1.DenoiseService") as told, harness.launched(folder, **settings) as process:
        harness.until(lambda: _is_open(http_port), "probes were answered")
        pages = (harness.http_get(http_port, "/readyz")[0], harness.http_get(http_port, "/healthz")[0])
        states, refusal = [told.get(timeout=LIMIT_S)], None
        if states[0] != HealthCheckResponse.SERVING:
            with connected(target) as stub:
                refusal = refused(lambda: stub.Denoise(raw_request(noisy(1, 8, 8))))
        while states[-1] != HealthCheckResponse.SERVING:
            states.append(told.get(timeout=LIMIT_S))
        service = harness.ready(process, folder)
        readyz = service.http("/readyz")[0]
        harness.stopped(service)
    return Birth(pages, tuple(states), refusal, readyz)


def test_probes_say_alive_but_not_ready_until_the_service_serves(birth: Birth) -> None:
    assert birth.pages_before == (503, 200)
    assert birth.readyz_after == 200


def test_health_says_not_serving_before_it_says_serving(birth: Birth) -> None:
    assert birth.states == (HealthCheckResponse.NOT_SERVING, HealthCheckResponse.SERVING)


def test_a_call_before_that_is_told_to_come_back(birth: Birth) -> None:
    assert birth.refusal_before is not None, "calls did not reach the service before it served"
    assert (birth.refusal_before.code, birth.refusal_before.reason) == ("UNAVAILABLE", "NOT_READY")
    assert birth.refusal_before.retry_after_s is not None


def test_a_setting_that_does_not_exist_ends_it_with_2(tmp_path: Path) -> None:
    assert _ends(tmp_path, lanes=3) == 2
    assert "DENOISED_LANES: no such setting" in log_of(tmp_path)


def test_an_empty_model_store_ends_it_with_1(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()

    assert _ends(tmp_path, models_dir=store) == 1
    assert f"the model store {store} holds no" in log_of(tmp_path)


def test_a_damaged_model_ends_it_with_1(oracle: Oracle, tmp_path: Path) -> None:
    path = tmp_path / "store" / "gaussian-base" / "1" / MODEL_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(oracle.path.read_bytes()[:-1000])

    assert _ends(tmp_path, models_dir=tmp_path / "store") == 1
    assert f"{path}: the file " in log_of(tmp_path)
    assert "export it again" in log_of(tmp_path) or "is damaged" in log_of(tmp_path)


@pytest.mark.parametrize("name", ["grpc", "http"])
def test_a_port_that_is_taken_ends_it_with_1(wide_service: RunningService, tmp_path: Path, name: str) -> None:
    port = int(wide_service.grpc_target.split(":")[1]) if name == "grpc" else wide_service.http_port
    assert _ends(tmp_path, **{f"{name}_port": port}) == 1
    assert "the service could not start" in log_of(tmp_path)
    assert f"can't listen on 127.0.0.1:{port}" in log_of(tmp_path)
    assert f"set DENOISED_{name.upper()}_HOST" in log_of(tmp_path)


def test_a_ports_file_in_no_folder_ends_it_with_1(oracle: Oracle, tmp_path: Path) -> None:
    path = tmp_path / "no-such-folder" / "ports.json"
    assert _ends(tmp_path, ports_file=path) == 1
    assert f"the ports can't be written to {path}: No such file or directory; set DENOISED_PORTS_FILE" in (
        log_of(tmp_path)
    )


def test_a_gpu_without_a_runtime_for_gpus_ends_it_with_1(oracle: Oracle, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the onnxruntime of this environment is one for GPUs")

    assert _ends(tmp_path, provider="cuda") == 1
    assert "shall run on CUDAExecutionProvider, but the onnxruntime that is installed has only" in log_of(tmp_path)
    assert "or set DENOISED_PROVIDER=cpu" in log_of(tmp_path)


def test_a_service_that_is_stopped_while_models_load_ends_with_0_and_loads_no_more(tmp_path: Path) -> None:
    port, store = _free_ports(1)[0], Path(__file__).parents[1] / "models"
    with harness.launched(tmp_path, http_port=port, models_dir=store, default_model="bench-s") as process:
        harness.until(lambda: _is_open(port), "probes were answered")
        assert harness.http_get(port, "/healthz")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0

    events = [json.loads(line)["event"] for line in log_of(tmp_path).splitlines()]
    assert "serving" not in events
    assert events.count("model ready") < len(list(store.glob(f"*/*/{MODEL_FILE}")))
    assert events[-1] == "stopped"


def _ends(folder: Path, **settings: object) -> int:
    """The exit code of a service that must not start; one line or a few, never a traceback."""
    with harness.launched(folder, **settings) as process:
        code = process.wait(LIMIT_S)
    assert "Traceback" not in log_of(folder)
    return code


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: who watches a service from before its start must know them."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S).close()
    except ConnectionRefusedError:
        return False
    return True
