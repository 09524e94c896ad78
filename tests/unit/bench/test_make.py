"""The committed test networks are what their script makes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.networks import Network

torch = pytest.importorskip("torch")
make = pytest.importorskip("tests.models.make")

pytestmark = pytest.mark.training


@pytest.mark.parametrize("recipe", make.RECIPES, ids=lambda recipe: recipe.name)
def test_the_script_makes_the_committed_network(recipe: Any, tmp_path: Path) -> None:
    path, contract = make.make(recipe, tmp_path)

    made, committed = Network(path), Network(make.STORE / recipe.name / make.VERSION / "model.onnx")
    units = np.random.default_rng(1).random((1, contract.channels, 64, 64), dtype=np.float32)
    assert contract.unit_edges_px == committed.contract.unit_edges_px
    assert contract.halo_px == committed.contract.halo_px
    assert contract.golden.noisy_base64 == committed.contract.golden.noisy_base64
    assert np.abs(made.run(units) - committed.run(units)).max() < 1e-4


def test_parameter_counts_are_the_published_ones() -> None:
    def count(network: Any) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(make.Small()) == 37_569
    assert 470_000 < count(make.Medium()) < 475_000
