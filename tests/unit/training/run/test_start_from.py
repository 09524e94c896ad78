"""A run may begin with another's weights, or a published file's: deeper without losing anything, or not at all."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from denoised.contract import INPUT_NAME, MODEL_FILE
from denoised.noise import keyed_rng
from tests.unit.training.run.tiny import CONV_DAE, PCA, tiny_config
from training.config import ConvDaeConfig, RunConfig
from training.data.pack import Pack
from training.errors import RunError
from training.export import onnx_file
from training.export.publish import export
from training.networks import Network, build_network
from training.networks.conv_dae import grey_weights
from training.run.directory import ParentFile, RunDir
from training.run.loop import train
from training.run.published import PublishedNetwork, network_in, read_published
from training.run.start import start_from
from training.run.trained import load_trained

pytestmark = pytest.mark.training

CENTRED = {**CONV_DAE, "input_centre": 0.3}


def _config(*, steps: int = 2, rate: float = 1e-12, **network: Any) -> RunConfig:
    # A rate of practically nothing: what comes out is what the run began with.
    return tiny_config(
        network={**CONV_DAE, **network},
        optimiser={"steps": steps, "learning_rate": rate, "warmup_steps": 1, "weight_decay": 0.0},
    )


@pytest.fixture(scope="module")
def parent(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run whose weights have moved far enough to tell them from fresh ones."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "parent")
    config = _config(steps=6, rate=1e-2)
    run.create(config)
    train(config, pack, run, resume=False, workers=0, show_progress=False)
    return run


@pytest.fixture(scope="module")
def published(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version's directory of an exported run; its weights are close enough to the first ones to pass the gate."""
    run = RunDir(tmp_path_factory.mktemp("runs") / "exported")
    config = _config(steps=4, rate=1e-5, input_centre=0.3)
    run.create(config)
    train(config, pack, run, resume=False, workers=0, show_progress=False)
    exported = export(run, pack, tmp_path_factory.mktemp("store"), version=None, calibration_crop_count=8)
    return exported.path.parent


def child_of(source: Path, config: RunConfig, pack: Pack, path: Path) -> RunDir:
    run = RunDir(path)
    run.create(config)
    train(config, pack, run, resume=False, start=start_from(source, config), workers=0, show_progress=False)
    return run


def pictures(channels: int = 1) -> Tensor:
    return torch.from_numpy(keyed_rng(1).random((2, channels, 64, 48), dtype=np.float32))


def loaded(network: ConvDaeConfig, weights: Mapping[str, Tensor]) -> Network:
    built = build_network(network)
    built.load_state_dict(dict(weights))
    return built.eval()


def test_a_deeper_network_begins_as_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    config = _config(middle_blocks=2)
    run = child_of(parent.path, config, pack, tmp_path / "deeper")
    noisy = pictures()
    with torch.no_grad():
        before, after = (load_trained(which).network(noisy) for which in (parent, run))
        fresh = build_network(config.network).eval()(noisy)
    torch.testing.assert_close(after.image, before.image, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.sigma_map, before.sigma_map, atol=1e-6, rtol=0)
    assert not torch.allclose(fresh.image, before.image, atol=1e-6)


def test_the_run_keeps_the_config_of_the_one_that_it_started_from(pack: Pack, parent: RunDir, tmp_path: Path) -> None:
    assert parent.load_parent() is None
    run = child_of(parent.path, _config(), pack, tmp_path / "child")
    assert run.load_parent() == parent.load_config()


@pytest.mark.parametrize("name", ["", MODEL_FILE])
@pytest.mark.parametrize("middle_blocks", [1, 2])
def test_a_run_begins_as_the_published_file_that_it_started_from(
    middle_blocks: int, name: str, pack: Pack, published: Path, tmp_path: Path
) -> None:
    config = tiny_config(network={**CENTRED, "middle_blocks": middle_blocks})
    start = start_from(published / name, config)
    network = build_network(config.network)
    network.load_state_dict(network.state_dict() | start.weights)
    noisy = pictures()
    answer = onnx_file.run(onnx_file.session((published / MODEL_FILE).read_bytes()), **{INPUT_NAME: noisy.numpy()})
    with torch.no_grad():
        image, sigma_map, *_ = network.eval()(noisy)
    assert float(np.abs(image.numpy() - answer["denoised"]).max()) < 1e-6
    assert float(np.abs(sigma_map.numpy() - answer["sigma_map"]).max()) < 1e-6


def test_the_weights_in_a_published_file_are_those_of_the_run_bit_for_bit(pack: Pack, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    config = _config(steps=4, rate=1e-5, widths=[16, 32, 16], encoder_blocks=[1, 0], decoder_blocks=[2, 1])
    run.create(config)
    train(config, pack, run, resume=False, workers=0, show_progress=False)
    path = export(run, pack, tmp_path / "store", version=None, calibration_crop_count=8).path
    found, trained = read_published(path), load_trained(run)
    assert found.config == trained.config.network
    own = trained.network.state_dict()
    assert found.weights.keys() == own.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in own.items())


@pytest.mark.parametrize("shape", [{}, {"head_px": 4}, {"relu_between": True}])
def test_biases_that_are_all_zero_come_back_too_although_the_exporter_drops_them(shape: dict[str, Any]) -> None:
    from training.export.graphs import graphs_of

    config = ConvDaeConfig.model_validate({**CENTRED, **shape})
    network = build_network(config)
    model = onnx_file.to_onnx(graphs_of(network, "conv_dae")[0])
    assert "network.middle.0.first.bias" not in {tensor.name for tensor in model.graph.initializer}
    found, weights = network_in(model)
    assert found == config
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())


def test_the_run_notes_the_model_that_it_started_from(pack: Pack, published: Path, tmp_path: Path) -> None:
    run = child_of(published, _config(input_centre=0.3), pack, tmp_path / "child")
    found: PublishedNetwork = read_published(published)
    noted = run.load_parent()
    assert isinstance(noted, ParentFile)
    assert (noted.name, noted.version, noted.digest) == ("tiny", "1", found.digest)
    assert noted.network == ConvDaeConfig.model_validate(CENTRED)
    exported = export(run, pack, tmp_path / "store", version=None, calibration_crop_count=8)
    card = (exported.path.parent / "README.md").read_text()
    assert f"Started from the weights of tiny, version 1 (digest `{found.digest[:16]}`)" in card


def test_a_grey_network_begins_as_the_mean_of_what_one_of_three_channels_makes_of_grey() -> None:
    torch.manual_seed(5)
    colour_config = ConvDaeConfig.model_validate({**CENTRED, "channels": 3})
    colour = build_network(colour_config).eval()
    with torch.no_grad():
        for parameter in colour.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        grey = loaded(ConvDaeConfig.model_validate(CENTRED), grey_weights(colour.state_dict()))
        noisy = pictures()
        ours, theirs = grey(noisy), colour(noisy.repeat(1, 3, 1, 1))
    torch.testing.assert_close(ours.image, theirs.image.mean(dim=1, keepdim=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.sigma_map, theirs.sigma_map, atol=1e-5, rtol=0)
    assert float((theirs.image[:, 0] - theirs.image[:, 1]).abs().max()) > 1e-3


def test_a_network_of_three_channels_does_not_begin_as_a_grey_one(published: Path) -> None:
    with pytest.raises(RunError, match="images of 1 channels, this network of 3"):
        start_from(published, tiny_config(network={**CENTRED, "channels": 3}))


@pytest.mark.parametrize("network", [{"middle_blocks": 0}, {"widths": [32, 32]}])
def test_a_network_that_does_not_fit_is_refused(network: dict[str, Any], parent: RunDir, published: Path) -> None:
    with pytest.raises(RunError, match="same widths and no more blocks"):
        start_from(parent.path, _config(**network))
    with pytest.raises(RunError, match="same widths and no more blocks"):
        start_from(published, tiny_config(network={**CENTRED, **network}))


def test_another_input_centre_is_refused_and_the_setting_is_named(parent: RunDir, published: Path) -> None:
    with pytest.raises(RunError, match=r"--set network\.input_centre=0\.3"):
        start_from(published, _config())
    with pytest.raises(RunError, match=r"--set network\.input_centre=0$"):
        start_from(parent.path, tiny_config(network=CENTRED))


def test_another_place_of_the_relus_is_refused_and_the_setting_is_named(published: Path) -> None:
    with pytest.raises(RunError, match=r"--set network\.relu_between=false$"):
        start_from(published, tiny_config(network={**CENTRED, "relu_between": True}))


def test_a_run_of_another_kind_is_refused_and_both_kinds_are_named(pack: Pack, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "pca")
    config = tiny_config(network=PCA)
    other.create(config)
    train(config, pack, other, resume=False, show_progress=False)
    with pytest.raises(RunError, match=r"\(pca\).*\(conv_dae\)"):
        start_from(other.path, _config())


def test_where_nothing_lies_a_run_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        start_from(tmp_path, _config())


def test_a_damaged_file_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / "1")
    path = tmp_path / "1" / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="changed after it was sealed"):
        start_from(tmp_path / "1", tiny_config(network=CENTRED))
    with pytest.raises(RunError, match="cannot read"):
        read_published(tmp_path / "nothing")


def test_an_int8_file_is_refused(published: Path, tmp_path: Path) -> None:
    contract = replace(read_published(published).contract, precision="int8")
    path = tmp_path / MODEL_FILE
    path.write_bytes(onnx_file.with_metadata((published / MODEL_FILE).read_bytes(), contract.to_metadata()))
    with pytest.raises(RunError, match="name the fp32 file"):
        start_from(path, tiny_config(network=CENTRED))


@pytest.mark.parametrize("name", ["network.head.weight", "network.tail.weight", "network.tail.bias"])
def test_a_file_without_this_networks_weights_is_refused(name: str, published: Path, tmp_path: Path) -> None:
    model = onnx.load_from_string((published / MODEL_FILE).read_bytes())
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.name = f"{name}.of_another_release"
    path = tmp_path / MODEL_FILE
    metadata = read_published(published).contract.to_metadata()
    path.write_bytes(onnx_file.with_metadata(model.SerializeToString(), metadata))
    with pytest.raises(RunError, match=rf"no conv_dae as this release writes it.*{name.removeprefix('network.')}"):
        start_from(path, tiny_config(network=CENTRED))
