"""One optimisation step: how far it moves the weights of narrow and wide filters."""

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import tiny_config
from training.run.distributed import Ranks
from training.run.feed import TensorBatch
from training.run.step import Stepper

pytestmark = pytest.mark.training

_RATE = 1e-3


def batches() -> Iterator[TensorBatch]:
    generator = torch.Generator().manual_seed(3)
    while True:
        clean = torch.rand(2, 1, 16, 16, generator=generator)
        noisy = clean + 0.1 * torch.randn(2, 1, 16, 16, generator=generator)
        yield TensorBatch(noisy, clean, torch.full((2, 1, 16, 16), 0.1), torch.empty(2, 0), 0)


def moves(full_rate_fan_in: int | None) -> dict[int, float]:
    """The largest move of a weight by one step, by the fan-in of its filter; biases have 1."""
    config = tiny_config(optimiser={"full_rate_fan_in": full_rate_fan_in, "weight_decay": 0.0})
    stepper = Stepper(config, Ranks(0, 1, torch.device("cpu")))
    # Every layer is to get a gradient: the tail and the blocks' second convolutions start at zero.
    with torch.no_grad():
        for weight in stepper.network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4)))
    before = [weight.detach().clone() for weight in stepper.network.parameters()]
    stepper.step(0, batches(), _RATE)
    found: dict[int, float] = {}
    for old, weight in zip(before, stepper.network.parameters(), strict=True):
        fan_in = weight[0].numel() if weight.ndim > 1 else 1
        found[fan_in] = max(found.get(fan_in, 0.0), float((weight.detach() - old).abs().max()))
    return found


def test_all_weights_learn_at_one_rate_unless_told_otherwise() -> None:
    assert set(moves(None)) == {1, 16, 36, 64, 144}
    assert all(moved == pytest.approx(_RATE, rel=0.02) for moved in moves(None).values())


def test_filters_wider_than_the_given_fan_in_learn_slower_by_as_much_as_they_are_wider() -> None:
    for fan_in, moved in moves(36).items():
        assert moved == pytest.approx(_RATE * min(1.0, 36 / fan_in), rel=0.02)
