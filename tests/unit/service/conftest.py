"""What the service's unit tests share: a contract, metrics of their own, logs, and Hypothesis without a stopwatch."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from structlog.typing import EventDict

from denoised.calibration import Calibration
from denoised.contract import GoldenPair, ModelContract, Parity, SampleLevels, TilingError
from denoised.noise import NoiseSpec
from service.metrics import Metrics

# Hypothesis fails an example that takes more than 200 ms by default; how fast the machine is decides nothing here.
settings.register_profile("service", deadline=None)
settings.load_profile("service")


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """What is logged, kept from the terminal: drawing the tracebacks of failures takes longer than the tests."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def contract() -> ModelContract:
    picture = np.zeros((4, 8, 3), np.uint8)
    return ModelContract(
        name="gaussian-base",
        version="1",
        kind="conv_dae",
        capabilities=("denoise",),
        precision="fp32",
        summary="For tests.",
        channels=3,
        noise=NoiseSpec.gaussian(5.0, 50.0),
        levels=SampleLevels(),
        size_multiple_px=4,
        fixed_side_px=0,
        unit_edges_px=(16, 32, 64),
        halo_px=8,
        receptive_field_px=61,
        sigma_map_scale_px=4,
        code_length=0,
        gmac_per_megapixel=21.5,
        parity=Parity(max_abs_difference=1e-6, psnr_db=130.0),
        tiling=TilingError(max_levels=1, differing_share=0.001),
        quality_db={"faces": {"25": 30.5}},
        calibration=Calibration(),
        training_data_digest="d",
        run_config_digest="c",
        license="Apache-2.0",
        golden=GoldenPair.of(picture, picture),
    )
