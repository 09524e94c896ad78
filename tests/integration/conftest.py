"""The services that the tests share, each one process for the whole run, and what every test leaves behind: nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from denoised.contract import MODEL_FILE
from denoised.v1.denoised_pb2_grpc import DenoiseServiceStub
from service.settings import load_settings
from tests.integration import harness
from tests.integration.harness import RunningService
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, raw_request
from tests.integration.plug import Plug

# What else is in the service at a moment must not depend on reports that nobody asked for.
UNASKED: Final = {"report_share": 0, "report_one_in": 10**6}
# One lane and small limits, so that a test decides what waits, what shares a batch and what no longer fits.
NARROW: Final = {
    **UNASKED,
    "lane_count": 1,
    "batch_pixels": 1_900_000,
    "queue_requests": 16,
    # The plug, which is four units, and as much again as four units of 256 x 256.
    "queue_pixels": 4 * 560 * 560 + 4 * 256 * 256,
    "memory_bytes": 17 * 2**20,
    "message_bytes": 4 * 2**20,
    "batch_image_count": 4,
    "stream_items_in_flight": 4,
}
# Less memory than a large image takes as a whole.
FRUGAL: Final = {**UNASKED, "lane_count": 2, "memory_bytes": 200_000_000, "message_bytes": 4 * 2**20}
_PLUG_SIDE_PX: Final = 1024


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """The network that the services serve by default."""
    settings = load_settings()
    files = list((settings.models_dir / settings.default_model).glob(f"*/{MODEL_FILE}"))
    if not files:
        pytest.skip(f"no network {settings.default_model!r} is shipped in this checkout; nothing can be served")
    return Oracle(max(files, key=lambda path: int(path.parent.name)))


@pytest.fixture(scope="session")
def light() -> Oracle:
    """A network so light that an image's way costs more than its pixels; for grey images."""
    return Oracle(Path(__file__).parents[1] / "models" / "bench-s" / "1" / MODEL_FILE)


@pytest.fixture(scope="session")
def light_store(light: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with the light network alone."""
    store = tmp_path_factory.mktemp("light-store")
    (store / light.contract.name).symlink_to(light.path.parents[1])
    return store


@pytest.fixture(scope="session")
def wide_service(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with harness.running(tmp_path_factory.mktemp("wide"), lane_count=2, **UNASKED) as service:
        yield service


@pytest.fixture(scope="session")
def narrow_service(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with harness.running(tmp_path_factory.mktemp("narrow"), **NARROW) as service:
        yield service


@pytest.fixture
def served(wide_service: RunningService) -> Iterator[RunningService]:
    """Two lanes and the default limits."""
    yield wide_service
    harness.until(lambda: not wide_service.not_at_rest(), "queue, ledger and lanes were empty again")


@pytest.fixture
def narrow(narrow_service: RunningService) -> Iterator[RunningService]:
    """One lane and the limits of ``NARROW``."""
    yield narrow_service
    harness.until(lambda: not narrow_service.not_at_rest(), "queue, ledger and lanes were empty again")


@pytest.fixture(scope="session")
def frugal_service(
    light: Oracle, light_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    settings = FRUGAL | {"models_dir": light_store, "default_model": light.contract.name}
    with harness.running(tmp_path_factory.mktemp("frugal"), **settings) as service:
        yield service


@pytest.fixture
def frugal(frugal_service: RunningService) -> Iterator[RunningService]:
    """The light network, and less memory than large images take."""
    yield frugal_service
    harness.until(lambda: not frugal_service.not_at_rest(), "queue, ledger and lanes were empty again")


@pytest.fixture
def stub(served: RunningService) -> Iterator[DenoiseServiceStub]:
    with harness.connected(served.grpc_target) as stub:
        yield stub


@pytest.fixture
def narrow_stub(narrow: RunningService) -> Iterator[DenoiseServiceStub]:
    with harness.connected(narrow.grpc_target) as stub:
        yield stub


@pytest.fixture(scope="session")
def plug(narrow_service: RunningService) -> Plug:
    request = raw_request(noisy(1, _PLUG_SIDE_PX, _PLUG_SIDE_PX))
    with harness.connected(narrow_service.grpc_target) as stub:
        response = stub.Denoise(request)
    assert response.batching.tile_count > 1
    return Plug(narrow_service, request, response.image)
