"""What is said of an image that has been through all its tiles."""

from dataclasses import replace

import numpy as np
import pytest

from denoised.contract import ModelContract
from service import tiling
from service.batcher import WorkReport
from service.pipeline import _Work
from service.types import Image


@pytest.mark.parametrize(("map_means", "sigma"), [((0.1, 0.2), 38.25), ((-0.002, 0.001), 0.0)])
def test_the_noise_level_is_the_mean_of_the_tiles_and_never_below_zero(
    contract: ModelContract, map_means: tuple[float, float], sigma: float
) -> None:
    contract = replace(contract, unit_edges_px=(16,), halo_px=4)
    plan = tiling.plan(height_px=16, width_px=24, edges_px=(16,), halo_px=4, multiple_px=4)
    work = _Work(Image(np.zeros((16, 24, 3), np.uint8), None, 0.0, 255.0), plan, contract, strength=1.0)
    assert work.sigmas is not None
    work.sigmas[:] = map_means

    assert work.findings(WorkReport(offered_at_s=0.0)).noise_sigma == pytest.approx(sigma)
