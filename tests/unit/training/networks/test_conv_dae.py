"""The convolutional denoising autoencoder: sizes, the fresh network, its cost, and that all of it learns."""

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch

from training.config import ConvDaeConfig, LossConfig
from training.losses import total_loss
from training.networks import ConvDenoisingAutoencoder, build_network

pytestmark = pytest.mark.training

TWO_LEVELS = ConvDaeConfig(
    widths=(16, 32), encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,), estimator_width=16
)
FOUR_LEVELS = ConvDaeConfig(
    widths=(16, 16, 16, 16),
    encoder_blocks=(0, 1, 0),
    middle_blocks=0,
    decoder_blocks=(0, 0, 1),
    estimator_width=16,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another are slow on a busy machine, and these networks are tiny."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(thread_count)


def awake(config: ConvDaeConfig, seed: int = 0) -> ConvDenoisingAutoencoder:
    """A network as after some training: zero-initialised layers carry weights, and it finds noise of some 50 levels."""
    torch.manual_seed(seed)
    network = ConvDenoisingAutoencoder(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
        last_bias(network).fill_(1.0)
    return network


def last_bias(network: ConvDenoisingAutoencoder) -> torch.Tensor:
    """What the estimator adds to all it finds, in units of 50 levels."""
    return network.estimator.layers[-1].get_parameter("bias")


def finds_everywhere(network: ConvDenoisingAutoencoder, sigma_levels: float) -> None:
    """Makes the estimator find one level whatever it sees, and the rest of the network ignore it."""
    with torch.no_grad():
        network.estimator.layers[-1].get_parameter("weight").zero_()
        last_bias(network).fill_(sigma_levels / 50)
        network.condition.weight.zero_()


def picture(height_px: int, width_px: int, *, channels: int = 3, count: int = 1) -> torch.Tensor:
    return torch.rand(count, channels, height_px, width_px, generator=torch.Generator().manual_seed(1))


def loss_of(network: ConvDenoisingAutoencoder, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    sigma_map = torch.full_like(clean[:, :1], 0.1)
    return total_loss(network, noisy, clean, sigma_map, step=0, config=LossConfig()).total


# Sizes


@pytest.mark.parametrize(
    ("config", "multiple_px"), [(TWO_LEVELS, 8), (FOUR_LEVELS, 16)], ids=["estimator decides", "levels decide"]
)
def test_the_size_multiple_is_the_coarser_of_levels_and_estimator(config: ConvDaeConfig, multiple_px: int) -> None:
    assert build_network(config).size_multiple_px == multiple_px


@pytest.mark.parametrize("config", [TWO_LEVELS, FOUR_LEVELS], ids=["two levels", "four levels"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (7, 1), (3, 4)])
def test_any_multiple_of_the_stated_size_keeps_its_size(config: ConvDaeConfig, rows: int, columns: int) -> None:
    network = awake(config)
    height_px, width_px = rows * network.size_multiple_px, columns * network.size_multiple_px
    with torch.no_grad():
        denoised = network(picture(height_px, width_px, count=2))
    assert denoised.image.shape == (2, 3, height_px, width_px)
    assert (denoised.code, denoised.logits) == (None, None)
    assert denoised.sigma_map.shape == (2, 1, height_px // 8, width_px // 8)
    assert network.sigma_map_scale_px == 8


def test_one_channel_in_gives_one_channel_out() -> None:
    network = awake(TWO_LEVELS.model_copy(update={"channels": 1}))
    with torch.no_grad():
        denoised = network(picture(16, 24, channels=1))
    assert denoised.image.shape == (1, 1, 16, 24)
    assert denoised.sigma_map.shape == (1, 1, 2, 3)


def test_images_of_a_batch_do_not_see_each_other() -> None:
    network = awake(TWO_LEVELS).double()
    batch = picture(32, 32, count=3).double()
    with torch.no_grad():
        together = network(batch)
        alone = network(batch[1:2])
    torch.testing.assert_close(together.image[1:2], alone.image)
    torch.testing.assert_close(together.sigma_map[1:2], alone.sigma_map)


def test_no_operation_is_global() -> None:
    # What is far away must not change a pixel, or tiles would differ from the whole image.
    network = awake(TWO_LEVELS)
    image = picture(32, 256)
    changed = image.clone()
    changed[..., 200:] = 0
    with torch.no_grad():
        torch.testing.assert_close(network(image).image[..., :100], network(changed).image[..., :100], rtol=0, atol=0)


def test_a_shift_by_the_size_multiple_shifts_the_answer() -> None:
    network = awake(FOUR_LEVELS).double()
    image = picture(256, 32).double()
    shift_px = network.size_multiple_px
    # The padding beyond the border is not part of the picture; no pixel sees further than 63 pixels.
    inner = slice(64, -64)
    with torch.no_grad():
        whole = network(image).image[:, :, shift_px:]
        shifted = network(image[:, :, shift_px:]).image
    torch.testing.assert_close(shifted[:, :, inner], whole[:, :, inner])
    assert not torch.equal(shifted, whole)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_each_encoder_sees_reaches_the_decoder_past_the_levels_below(level: int) -> None:
    network = awake(FOUR_LEVELS.model_copy(update={"encoder_blocks": (1, 1, 1)}))
    image = picture(32, 32)
    from_below, encoder = network.up[level], network.encoder[level]
    with torch.no_grad():
        from_below.get_parameter("weight").zero_()
        before = network(image).image
        encoder.get_parameter("0.second.bias").add_(1.0)
        assert not torch.equal(network(image).image, before)


# The fresh network


@pytest.mark.parametrize("config", [TWO_LEVELS, FOUR_LEVELS], ids=["two levels", "four levels"])
def test_a_fresh_network_returns_the_image_unchanged(config: ConvDaeConfig) -> None:
    torch.manual_seed(2)
    image = picture(32, 48)
    with torch.no_grad():
        assert torch.equal(build_network(config)(image).image, image)


def test_the_seed_alone_decides_the_initial_weights() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_network(TWO_LEVELS).state_dict()

    once, again, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)


# Learning


@pytest.mark.parametrize("config", [TWO_LEVELS, FOUR_LEVELS], ids=["two levels", "four levels"])
def test_gradients_reach_every_parameter(config: ConvDaeConfig) -> None:
    network = awake(config)
    clean = picture(32, 32, count=2)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    torch.autograd.backward(loss_of(network, noisy, clean))
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_the_image_depends_on_the_sigma_map() -> None:
    network = awake(TWO_LEVELS)
    image = picture(32, 32)
    with torch.no_grad():
        before = network(image)
        last_bias(network).add_(1.0)
        after = network(image)
    # One inside is 50 eight-bit levels outside.
    torch.testing.assert_close(after.sigma_map - before.sigma_map, torch.full((1, 1, 4, 4), 50 / 255))
    assert not torch.equal(after.image, before.image)


@pytest.mark.parametrize(
    ("sigma_levels", "share"), [(-5.0, 0.0), (0.0, 0.0), (0.75, 0.25), (1.5, 0.5), (3.0, 1.0), (10.0, 1.0), (50.0, 1.0)]
)
def test_the_correction_fades_out_below_three_levels_of_noise(sigma_levels: float, share: float) -> None:
    network = awake(TWO_LEVELS).double()
    image = picture(32, 32).double()
    with torch.no_grad():
        finds_everywhere(network, 50.0)
        whole = network(image).image - image
        finds_everywhere(network, sigma_levels)
        faded = network(image).image
    assert whole.abs().max() > 0.01
    torch.testing.assert_close(faded, image + share * whole)
    assert torch.equal(faded, image) == (share == 0)


@pytest.mark.parametrize("seed", range(8))
def test_a_fresh_network_learns_from_its_first_step_whatever_the_seed(seed: int) -> None:
    # Where the estimator's first guess is "no noise", a correction that fades out would never get a gradient.
    torch.manual_seed(seed)
    network = ConvDenoisingAutoencoder(TWO_LEVELS)
    clean = picture(32, 32, count=2)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(7))
    torch.autograd.backward(loss_of(network, noisy, clean))
    assert network.tail.weight.grad is not None
    assert network.tail.weight.grad.any()


def test_the_input_centre_is_what_a_bias_would_be_but_at_the_border() -> None:
    # Both sides of the border are grey then, where zero padding is a black frame otherwise.
    plain, centred = awake(TWO_LEVELS), awake(TWO_LEVELS.model_copy(update={"input_centre": 0.5}))
    with torch.no_grad():
        head = plain.head
        assert head.bias is not None
        head.bias -= 0.5 * head.weight.sum(dim=(1, 2, 3))
    noisy = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(6))
    one, other = plain(noisy).image, centred(noisy).image
    middle = (..., slice(48, 80), slice(48, 80))
    torch.testing.assert_close(one[middle], other[middle], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("relu_between", [False, True])
def test_with_relu_between_nothing_below_zero_goes_down_or_up_or_into_the_last_layer(*, relu_between: bool) -> None:
    network = awake(TWO_LEVELS.model_copy(update={"relu_between": relu_between}))
    smallest: list[float] = []
    for layer in (*network.down, *network.up, network.tail):
        layer.register_forward_pre_hook(lambda _, inputs: smallest.append(inputs[0].min().item()))
    network(picture(32, 32, count=1))
    assert len(smallest) == 3
    assert (min(smallest) >= 0) is relu_between


def test_a_smaller_first_convolution_sees_less_and_answers_at_the_same_size() -> None:
    wide, narrow = (ConvDenoisingAutoencoder(TWO_LEVELS.model_copy(update={"head_px": side})) for side in (6, 4))
    noisy = picture(16, 24, count=1)
    assert wide.head(noisy).shape == narrow.head(noisy).shape == (1, 16, 8, 12)
    assert narrow(noisy).image.shape == noisy.shape
    assert narrow.head.weight.shape[2:] == (4, 4)
