"""What a run may begin with: the weights of another run, or of a published model file."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training.config import ConvDaeConfig, NetworkConfig, RunConfig
from training.errors import RunError
from training.networks import build_network
from training.networks.conv_dae import grey_weights
from training.run.directory import Parent, ParentFile, RunDir
from training.run.published import is_published, read_published
from training.run.trained import load_trained


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to begin with.

    Attributes:
        weights: those averaged over training.
        parent: what they come from, as the run that begins with them remembers it.
    """

    weights: dict[str, Tensor]
    parent: Parent


def start_from(source: Path, config: RunConfig) -> Start:
    """The weights of a run's directory, of a published version's, or of its ``model.onnx``.

    Layers that these lack keep their first values; a residual block is the identity then, so a network can be deepened
    without losing what it learnt. A denoiser of one channel may begin as one of three that sees grey.

    Raises:
        RunError: there is nothing to begin with, it is damaged, or this config's network lacks some of the weights,
            shapes them otherwise, or sees its input otherwise.
    """
    parent: Parent
    network: NetworkConfig
    if is_published(source):
        found = read_published(source)
        contract, network, weights = found.contract, found.config, found.weights
        parent = ParentFile(name=contract.name, version=contract.version, digest=found.digest, network=found.config)
    else:
        trained = load_trained(RunDir(source))
        parent, network, weights = trained.config, trained.config.network, trained.network.state_dict()
    if isinstance(network, ConvDaeConfig) and (network.channels, config.network.channels) == (3, 1):
        network, weights = network.model_copy(update={"channels": 1}), grey_weights(weights)
    _require_fitting(source, network, weights, config.network)
    return Start(weights, parent)


def _require_fitting(source: Path, theirs: NetworkConfig, weights: dict[str, Tensor], ours: NetworkConfig) -> None:
    if theirs.channels != ours.channels:
        raise RunError(
            f"{source} takes images of {theirs.channels} channels, this network of {ours.channels}; start from one "
            "with as many, or in one channel from one of three"
        )
    own = build_network(ours).state_dict()
    foreign = [name for name, value in weights.items() if name not in own or own[name].shape != value.shape]
    if foreign:
        raise RunError(
            f"{source} ({theirs.kind}) has {len(foreign)} weights that this network ({ours.kind}) lacks or shapes "
            f"otherwise, such as {foreign[0]}; start from one with the same widths and no more blocks. It is {theirs!r}"
        )
    # Settings that no weight's shape betrays.
    for name, without in (("input_centre", 0.0), ("relu_between", False)):
        their_value, our_value = (
            getattr(each, name) if isinstance(each, ConvDaeConfig) else without for each in (theirs, ours)
        )
        if their_value != our_value:
            told = str(their_value).lower() if isinstance(their_value, bool) else f"{their_value:g}"
            raise RunError(
                f"{source} learnt with network.{name}={told}, the config has another, and the same weights answer "
                f"otherwise with it: --set network.{name}={told}"
            )
