"""The learning rate of a step, and the average of the weights."""

import pytest

pytest.importorskip("torch")

import torch

from training.config import OptimiserConfig
from training.run.average import WeightAverage
from training.run.schedule import learning_rate

pytestmark = pytest.mark.training


def test_the_rate_warms_up_in_equal_steps_and_then_falls_along_half_a_cosine() -> None:
    config = OptimiserConfig(steps=110, learning_rate=0.8, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.08 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 0.8
    assert rates[60] == pytest.approx(0.4)
    assert rates[110] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_rate_stays_until_the_cosine_of_the_last_steps_begins() -> None:
    config = OptimiserConfig(steps=100, learning_rate=0.8, warmup_steps=10, decay_steps=40)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[9:61] == [0.8] * 52
    assert rates[80] == pytest.approx(0.4)
    assert rates[100] == pytest.approx(0.0)


def test_a_run_made_longer_in_its_constant_part_has_had_the_rates_that_it_would_have_had() -> None:
    short, long = (
        OptimiserConfig(steps=steps, learning_rate=0.8, warmup_steps=10, decay_steps=40) for steps in (100, 300)
    )
    assert [learning_rate(step, short) for step in range(60)] == [learning_rate(step, long) for step in range(60)]


def test_a_cosine_longer_than_the_run_begins_behind_the_warm_up() -> None:
    long, whole = (
        OptimiserConfig(steps=50, learning_rate=0.8, warmup_steps=10, decay_steps=steps) for steps in (60, None)
    )
    assert [learning_rate(step, long) for step in range(50)] == [learning_rate(step, whole) for step in range(50)]


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (5, 0), (5, 5), (5, 200)])
def test_the_rate_is_positive_and_within_its_limit_on_every_step(steps: int, warmup_steps: int) -> None:
    config = OptimiserConfig(steps=steps, learning_rate=0.8, warmup_steps=warmup_steps)
    assert all(0 < learning_rate(step, config) <= 0.8 for step in range(steps))


def averaged(decay: float) -> tuple[torch.nn.Conv2d, WeightAverage]:
    """An average that began at zero, of a weight that is one now."""
    network = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(network.weight)
    average = WeightAverage(network, decay=decay)
    torch.nn.init.ones_(network.weight)
    return network, average


def test_the_average_follows_quickly_at_first_and_then_by_its_decay() -> None:
    _, average = averaged(0.25)
    expected = 0.0
    for decay in (2 / 11, 3 / 12, 0.25, 0.25):
        average.update()
        expected = decay * expected + (1 - decay)
        assert average.weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.update_count == 4


def test_an_average_goes_on_from_its_count_and_does_not_warm_up_again() -> None:
    _, first = averaged(0.999)
    for _ in range(50):
        first.update()
    _, second = averaged(0.999)
    second.restore(first.weights, first.update_count)
    first.update()
    second.update()
    assert torch.equal(first.weights["weight"], second.weights["weight"])


def test_the_network_gets_its_own_weights_and_mode_back_even_after_an_error() -> None:
    network, average = averaged(0.5)
    seen: list[tuple[float, bool]] = []

    def work() -> None:
        with average.swapped_in(network):
            seen.append((network.weight.item(), network.training))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [(0.0, False)]
    assert (network.weight.item(), network.training) == (1, True)
    assert average.weights["weight"].item() == 0
