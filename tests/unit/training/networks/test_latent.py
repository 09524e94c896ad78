"""The networks that go through a code: what they promise from outside, and that each of them learns."""

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch

from training.config import ConvAeConfig, FcAeConfig, LossConfig, NetworkConfig, PcaConfig, VaeConfig
from training.losses import total_loss
from training.networks import LatentNetwork, VariationalAutoencoder, build_network
from training.networks.vae import LOG_VARIANCE_LIMIT

pytestmark = pytest.mark.training

FC = FcAeConfig(kind="fc_ae", side_px=8, code_length=3, hidden=(32, 16))
CONV = ConvAeConfig(kind="conv_ae", side_px=8, code_length=3, widths=(8, 16))
VAE = VaeConfig(kind="vae", side_px=8, code_length=3, widths=(8, 16), output="sigmoid")
PCA = PcaConfig(kind="pca", side_px=8, code_length=3)
LAYERED = pytest.mark.parametrize("config", [FC, CONV, VAE], ids=lambda config: config.kind)
ALL = pytest.mark.parametrize("config", [FC, CONV, VAE, PCA], ids=lambda config: config.kind)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another are slow on a busy machine, and these networks are tiny."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(thread_count)


def fresh(config: NetworkConfig, seed: int = 0) -> LatentNetwork:
    torch.manual_seed(seed)
    network = build_network(config)
    assert isinstance(network, LatentNetwork)
    if config.kind == "pca":
        network.load_state_dict({name: torch.randn_like(value) for name, value in network.state_dict().items()})
    return network


def bars(count: int, *, channels: int = 1, side_px: int = 8) -> torch.Tensor:
    """Pictures with a bright column somewhere and a darker row somewhere: two numbers describe each."""
    generator = torch.Generator().manual_seed(1)
    column, row = torch.randint(side_px, (2, count), generator=generator)
    pictures = torch.zeros(count, channels, side_px, side_px)
    for picture, x, y in zip(pictures, column, row, strict=True):
        picture[:, y] = 0.5
        picture[:, :, x] = 1.0
    return pictures


# From outside


@ALL
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 4])
def test_shapes_are_as_declared(config: NetworkConfig, channels: int, count: int) -> None:
    network = fresh(config.model_copy(update={"channels": channels}))
    answer = network(bars(count, channels=channels))
    assert answer.image.shape == (count, channels, 8, 8)
    assert answer.code is not None
    assert answer.code.mean.shape == (count, 3)
    assert answer.sigma_map is None
    assert (network.channels, network.code_length) == (channels, 3)
    assert (network.fixed_side_px, network.size_multiple_px) == (8, 8)


@ALL
def test_the_answer_is_decode_of_encode(config: NetworkConfig) -> None:
    network = fresh(config)
    pictures = bars(3)
    answer = network(pictures)
    code = network.encode(pictures)
    assert answer.code is not None
    torch.testing.assert_close(answer.code.mean, code.mean, rtol=0, atol=0)
    torch.testing.assert_close(answer.image, network.decode(code.mean), rtol=0, atol=0)


@ALL
def test_nothing_goes_round_the_code(config: NetworkConfig) -> None:
    network = fresh(config)
    code = torch.randn(1, 3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network.decode(code), network.decode(code.clone()))
    # Two pictures of one code have one answer, however they differ.
    assert network.decode(code).shape == (1, 1, 8, 8)
    directions = torch.func.jacrev(network.decode)(code).flatten(0, -3).reshape(64, 3)
    assert torch.linalg.matrix_rank(directions) == 3


@ALL
def test_images_of_a_batch_do_not_see_each_other(config: NetworkConfig) -> None:
    network = fresh(config).double()
    pictures = bars(5).double()
    torch.testing.assert_close(network(pictures).image[2:3], network(pictures[2:3]).image)


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
@LAYERED
def test_logits_exist_where_the_network_ends_in_a_sigmoid(config: NetworkConfig, output: str) -> None:
    network = fresh(config.model_copy(update={"output": output}))
    answer = network(bars(2))
    if output == "linear":
        assert answer.logits is None
    else:
        assert answer.logits is not None
        torch.testing.assert_close(answer.image, torch.sigmoid(answer.logits), rtol=0, atol=0)
        assert torch.all((answer.image > 0) & (answer.image < 1))


@LAYERED
def test_the_seed_alone_decides_the_initial_weights(config: NetworkConfig) -> None:
    once, again, other = (fresh(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)


# Distribution over codes


@pytest.mark.parametrize("config", [FC, CONV, PCA], ids=lambda config: config.kind)
def test_a_deterministic_encoder_ignores_epsilon(config: NetworkConfig) -> None:
    network = fresh(config)
    pictures = bars(2)
    assert torch.equal(network(pictures, torch.ones(2, 3)).image, network(pictures).image)
    assert network.encode(pictures).log_variance is None


def test_epsilon_moves_the_code_by_that_many_standard_deviations() -> None:
    network = fresh(VAE)
    pictures, epsilon = bars(2), torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    code = network.encode(pictures)
    assert code.log_variance is not None
    moved = code.mean + torch.exp(code.log_variance / 2) * epsilon
    torch.testing.assert_close(network(pictures, epsilon).image, network.decode(moved), rtol=0, atol=0)
    assert torch.equal(network(pictures).image, network(pictures, torch.zeros(2, 3)).image)


def test_the_same_epsilon_gives_the_same_picture_whatever_torch_has_drawn_before() -> None:
    network, pictures, epsilon = fresh(VAE), bars(2), torch.ones(2, 3)
    before = network(pictures, epsilon).image
    torch.randn(7)
    assert torch.equal(network(pictures, epsilon).image, before)


def test_the_log_variance_stays_where_float32_can_square_it() -> None:
    network = fresh(VAE)
    assert isinstance(network, VariationalAutoencoder)
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.mul_(1e3)
    log_variance = network.encode(bars(8)).log_variance
    assert log_variance is not None
    assert log_variance.abs().max() == LOG_VARIANCE_LIMIT
    assert torch.isfinite(network(bars(8), torch.ones(8, 3)).image).all()


# Learning


def trained(config: NetworkConfig, loss: LossConfig, *, steps: int, learning_rate: float = 2e-3) -> tuple[float, float]:
    """Mean squared error of the reconstruction before and after."""
    network, pictures = fresh(config), bars(64)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(4)
    before = mean_square_error(network, pictures)
    for step in range(steps):
        epsilon = torch.randn(64, 3, generator=generator)
        parts = total_loss(network, pictures, pictures, pictures[:, :1], step=step, config=loss, epsilon=epsilon)
        optimiser.zero_grad()
        torch.autograd.backward(parts.total)
        optimiser.step()
    return before, mean_square_error(network, pictures)


@torch.no_grad()
def mean_square_error(network: LatentNetwork, pictures: torch.Tensor) -> float:
    return float((network(pictures).image - pictures).square().mean())


MSE, BCE = LossConfig(image={"mse": 1.0}), LossConfig(image={"bce": 1.0})


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
@pytest.mark.parametrize("config", [FC, CONV], ids=lambda config: config.kind)
def test_an_autoencoder_learns_what_a_few_numbers_can_say(config: NetworkConfig, output: str) -> None:
    # The pictures' own variance is 0.12: an error above it would be a network that answers with one picture.
    loss = BCE if output == "sigmoid" else MSE
    before, after = trained(config.model_copy(update={"output": output}), loss, steps=200)
    assert before > 0.12
    assert after < 0.05


def test_a_variational_autoencoder_learns_by_its_energy() -> None:
    loss = LossConfig(image={"bce": 1.0}, objective="energy")
    before, after = trained(VAE, loss, steps=200)
    assert before > 0.12
    assert after < 0.08


@LAYERED
def test_gradients_reach_every_parameter(config: NetworkConfig) -> None:
    # In the second step: the last convolution of a fresh residual block is zero, and the one before it waits for it.
    network, pictures = fresh(config), bars(32)
    bce_or_mse = LossConfig(image={"bce": 1.0} if config.ends_in_sigmoid else {"mse": 1.0}, objective="energy")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(2):
        optimiser.zero_grad()
        parts = total_loss(
            network, pictures, pictures, pictures, step=step, config=bce_or_mse, epsilon=torch.ones(32, 3)
        )
        torch.autograd.backward(parts.total)
        optimiser.step()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
