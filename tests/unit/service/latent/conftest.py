"""The contract of a variational model of small grey pictures."""

from dataclasses import replace

import numpy as np
import pytest

from denoised.contract import GoldenPair, ModelContract
from tests.unit.service.latent.coder_bench import LENGTH, SIDE_PX


@pytest.fixture
def vae(contract: ModelContract) -> ModelContract:
    return replace(
        contract,
        name="digits",
        kind="vae",
        capabilities=("denoise", "encode", "decode", "generate"),
        channels=1,
        size_multiple_px=SIDE_PX,
        fixed_side_px=SIDE_PX,
        unit_edges_px=(SIDE_PX,),
        halo_px=0,
        sigma_map_scale_px=0,
        code_length=LENGTH,
        golden=GoldenPair.of(*[np.zeros((SIDE_PX, SIDE_PX, 1), np.uint8)] * 2),
    )
