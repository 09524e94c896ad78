"""Batches: the same from any number of workers, shared by ranks without a gap, never twice the same draw."""

from itertools import islice

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import ENERGY, VAE, tiny_config
from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.run import feed
from training.run.distributed import Ranks
from training.run.feed import Feed, TensorBatch, default_worker_count, keyed_epsilon

pytestmark = pytest.mark.training

CPU = torch.device("cpu")


def batches(
    config: RunConfig, pack: Pack, *, count: int, start: int = 0, workers: int = 0, rank: int = 0, ranks: int = 1
) -> list[TensorBatch]:
    """The first batches of a feed that begins at a step."""
    sampler = CropSampler(pack, config.noise, seed=config.seed, data=config.data)
    with Feed(sampler, config, Ranks(rank, ranks, CPU), start=start, stop=start + 50, workers=workers) as feed:
        return list(islice(feed, count))


def assert_equal(one: list[TensorBatch], other: list[TensorBatch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.first_slot == b.first_slot
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_batches(pack: Pack, workers: int) -> None:
    config = tiny_config()
    assert_equal(batches(config, pack, count=12), batches(config, pack, count=12, workers=workers))


def test_a_feed_that_begins_later_gives_what_the_whole_one_gives_from_there(pack: Pack) -> None:
    config = tiny_config(optimiser={"accumulation": 2})
    assert_equal(batches(config, pack, count=10)[6:], batches(config, pack, count=4, start=3))


def test_ranks_share_each_batch_in_order(pack: Pack) -> None:
    config = tiny_config(network=VAE, loss=ENERGY, data={"batch_size": 6})
    whole = batches(config, pack, count=3)
    shares = [batches(config, pack, count=3, rank=rank, ranks=3) for rank in range(3)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert [part.first_slot for part in parts] == [0, 2, 4]
        for name in ("noisy", "clean", "sigma_map", "epsilon"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_no_noise_field_comes_twice_in_two_epochs_of_four_workers(pack: Pack) -> None:
    config = tiny_config(data={"batch_size": 4, "samples_per_epoch": 40, "synthetic_share": 0.0})
    found = batches(config, pack, count=20, workers=4)
    fields = {(batch.noisy - batch.clean)[slot].numpy().tobytes() for batch in found for slot in range(4)}
    clean_count = sum(bool(batch.sigma_map[slot].max() == 0) for batch in found for slot in range(4))
    assert len(fields) == 80 - max(0, clean_count - 1)


def test_all_samples_of_an_epoch_are_seen_once_by_a_run_that_is_killed_again_and_again(pack: Pack) -> None:
    config = tiny_config(data={"batch_size": 2, "samples_per_epoch": 40})
    whole = [batch.noisy.numpy().tobytes() for batch in batches(config, pack, count=20)]
    pieces: list[bytes] = []
    for start, count in ((0, 7), (7, 1), (8, 12)):
        pieces += [batch.noisy.numpy().tobytes() for batch in batches(config, pack, count=count, start=start)]
    assert pieces == whole
    assert len(set(whole)) == 20


def test_images_lie_with_their_channels_last(pack: Pack) -> None:
    (batch,) = batches(tiny_config(), pack, count=1)
    assert batch.noisy.shape == (2, 1, 16, 16)
    assert batch.noisy.is_contiguous(memory_format=torch.channels_last)


def test_draws_of_a_code_belong_to_their_sample_and_differ(pack: Pack) -> None:
    config = tiny_config(network=VAE, loss=ENERGY)
    draws = keyed_epsilon(config, range(400))
    assert draws.shape == (400, 4)
    assert torch.equal(keyed_epsilon(config, range(7, 9)), draws[7:9])
    assert not torch.equal(keyed_epsilon(tiny_config(network=VAE, loss=ENERGY, seed=1), range(7, 9)), draws[7:9])
    assert np.unique(draws.numpy()).size == 1600
    assert abs(float(draws.mean())) < 0.1
    assert abs(float(draws.std()) - 1) < 0.1


def test_networks_without_a_distribution_draw_nothing() -> None:
    assert keyed_epsilon(tiny_config(), range(3)).shape == (3, 0)


@pytest.mark.parametrize(
    ("device", "cores", "workers"),
    [("cpu", 2.0, 0), ("cpu", 4.0, 1), ("cpu", 64.0, 1), ("cuda", 2.0, 1), ("cuda", 6.5, 5), ("cuda", 64.0, 8)],
)
def test_workers_take_no_core_that_trains(
    device: str, cores: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "core_count", lambda: cores)
    assert default_worker_count(torch.device(device)) == workers
