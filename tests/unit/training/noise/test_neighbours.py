"""Neighbor2Neighbor: which pixels are drawn, what the loss is, and that a network learns to denoise by it."""

import pytest

torch = pytest.importorskip("torch", reason="the training extra is not installed")

import numpy as np  # noqa: E402 -- after the skip
from torch import Tensor, nn  # noqa: E402

from training.losses import LossParts  # noqa: E402
from training.networks.base import Answer, Network  # noqa: E402
from training.noise.neighbours import FINAL_GAMMA, draw_split, pick, self_supervised_loss  # noqa: E402

pytestmark = pytest.mark.training


def images(count: int = 2, side_px: int = 8, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn: Tensor = torch.rand((count, channels, side_px, side_px), generator=generator)
    return drawn


def loss(network: nn.Module, noisy: Tensor, *, step: int | None = 0, seed: int = 1, first_slot: int = 0) -> LossParts:
    sigma_map = torch.full_like(noisy[:, :1], 0.1)
    return self_supervised_loss(
        network, noisy, sigma_map, step=step, steps=10, seed=seed, sigma_weight=0.5, first_slot=first_slot
    )


# The split


def test_two_different_pixels_of_each_cell_that_touch_are_drawn() -> None:
    split = draw_split((64, 64), range(4), seed=0, step=0)
    assert split.first.shape == split.second.shape == (4, 32, 32)
    rows, columns = (abs(split.first // 2 - split.second // 2), abs(split.first % 2 - split.second % 2))
    assert torch.equal(rows + columns, torch.ones_like(rows))


def test_all_eight_ordered_pairs_are_drawn_equally_often() -> None:
    split = draw_split((256, 256), range(1), seed=0, step=0)
    counts = np.bincount((4 * split.first + split.second).flatten().numpy(), minlength=16)
    counts = counts[counts > 0]
    assert len(counts) == 8
    # Chi-square with 7 degrees of freedom: 29.9 is its 99.99 % quantile.
    assert np.sum((counts - 2048.0) ** 2 / 2048.0) < 29.9


def test_a_split_is_a_function_of_seed_step_and_slot_alone() -> None:
    base = draw_split((16, 16), range(4), seed=3, step=5).first
    assert torch.equal(base, draw_split((16, 16), range(4), seed=3, step=5).first)
    # The second of two ranks draws what one rank draws for the second half of its batch.
    assert torch.equal(base[2:], draw_split((16, 16), range(2, 4), seed=3, step=5).first)
    for seed, step in ((4, 5), (3, 6)):
        assert not torch.equal(base, draw_split((16, 16), range(4), seed=seed, step=step).first)
    assert not torch.equal(base[0], base[1])


def test_picked_pixels_are_those_of_the_split_the_same_in_all_channels() -> None:
    noisy = images()
    split = draw_split((8, 8), range(2), seed=0, step=0)
    picked = pick(noisy, split.first)
    for sample in range(2):
        for row in range(4):
            for column in range(4):
                down, right = divmod(int(split.first[sample, row, column]), 2)
                expected = noisy[sample, :, 2 * row + down, 2 * column + right]
                assert torch.equal(picked[sample, :, row, column], expected)


def test_odd_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="8 x 9"):
        draw_split((8, 9), range(1), seed=0, step=0)


# The loss


class Scaled(Network):
    """Answers with a multiple of its input, plus a noise map where it is asked to."""

    def __init__(self, *, has_map: bool = False) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))
        self._has_map = has_map
        self.gradients: list[bool] = []

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        self.gradients.append(torch.is_grad_enabled())
        sigma_map = torch.full_like(noisy[:, :1, ::4, ::4], 0.3) if self._has_map else None
        return Answer(self.factor * noisy, sigma_map)


@pytest.mark.parametrize(("step", "gamma"), [(0, 0.0), (5, FINAL_GAMMA / 2), (None, FINAL_GAMMA)])
def test_the_loss_is_the_formula_of_the_paper(step: int | None, gamma: float) -> None:
    noisy = images()
    split = draw_split((8, 8), range(2), seed=1, step=step or 0)
    one, other = pick(noisy, split.first), pick(noisy, split.second)
    error = 0.5 * one - other
    expected = (error**2).mean() + gamma * ((error - 0.5 * (one - other)) ** 2).mean()
    parts = loss(Scaled(), noisy, step=step)
    torch.testing.assert_close(parts.total, expected)
    torch.testing.assert_close(parts.image, expected)
    assert parts.sigma is None


def test_no_gradient_flows_through_the_answer_to_the_whole_image() -> None:
    network = Scaled()
    parts = loss(network, images(), step=5)
    parts.total.backward()  # type: ignore[no-untyped-call]
    assert sorted(network.gradients) == [False, True]
    assert network.factor.grad is not None
    assert torch.isfinite(network.factor.grad)


def test_the_noise_map_is_learnt_beside_it() -> None:
    parts = loss(Scaled(has_map=True), images())
    assert parts.sigma is not None
    torch.testing.assert_close(parts.sigma, torch.tensor(0.2 * 255 / 50))
    torch.testing.assert_close(parts.total, parts.image + 0.5 * parts.sigma)


def test_the_loss_of_a_batch_is_the_mean_over_the_ranks_that_share_it() -> None:
    noisy = images(4)
    whole = loss(Scaled(), noisy, step=3).total
    shares = [loss(Scaled(), noisy[first : first + 2], step=3, first_slot=first).total for first in (0, 2)]
    torch.testing.assert_close(torch.stack(shares).mean(), whole)


def test_the_identity_is_no_solution() -> None:
    # Of pure noise on a plain area the mean is the best answer: its loss is half of the identity's.
    noisy = 0.5 + 0.1 * torch.randn((8, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    identity, mean = Scaled(), Scaled()
    identity.factor.data.fill_(1.0)
    plain = [loss(network, batch).total for network, batch in ((identity, noisy - 0.5), (mean, noisy - 0.5))]
    mean.factor.data.fill_(0.0)
    assert loss(mean, noisy - 0.5).total < 0.6 * plain[0]


def test_a_network_learns_to_denoise_from_noisy_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    rows = torch.linspace(0, 12, 32)
    phases = 6 * torch.rand((64, 2, 1, 1), generator=generator)
    clean = 0.5 + 0.2 * torch.sin(rows[None, :, None] + phases[:, 0]) * torch.cos(rows[None, None] + phases[:, 1])
    clean = clean[:, None]
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)

    class Small(Network):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))

        def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
            return Answer(noisy - self.layers(noisy))

    network = Small()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(150):
        optimiser.zero_grad()
        chosen = torch.randperm(64, generator=generator)[:16]
        parts = self_supervised_loss(
            network, noisy[chosen], noisy[chosen], step=step, steps=150, seed=0, sigma_weight=0.0
        )
        parts.total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        answer = network(noisy).image
    before, after = ((picture - clean).square().mean() for picture in (noisy, answer))
    assert 10 * torch.log10(before / after) > 4.0
