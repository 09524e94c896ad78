"""A run's network as it is measured, exported and shown: averaged weights, eval mode, on the CPU."""

from pathlib import Path
from typing import Literal, NamedTuple

from training.config import RunConfig
from training.errors import CheckpointError
from training.networks import Network, build_network
from training.run.checkpoint import Checkpoint
from training.run.directory import RunDir

Weights = Literal["best", "last"]


class Trained(NamedTuple):
    """A network and where it comes from.

    Attributes:
        config: of its run.
        network: with the averaged weights.
        step: that they are from.
        weights: ``best`` by the run's selection metric, or ``last``.
        pack_digest: of the images that it was trained on.
    """

    config: RunConfig
    network: Network
    step: int
    weights: Weights
    pack_digest: str


def load_trained(run_dir: RunDir, weights: Weights | None = None) -> Trained:
    """The averaged weights of the best checkpoint, or of the last where the run measured none; or those asked for.

    Raises:
        RunError: there is no run, no such checkpoint, it is damaged, or of another network.
    """
    config = run_dir.load_config()
    best = run_dir.checkpoints.load_best() if weights != "last" else None
    if weights == "best" and best is None:
        raise CheckpointError(
            f"{run_dir.path} has no best checkpoint: nothing was held out, or no checkpoint was measured yet; take the "
            "last one"
        )
    checkpoint = best or run_dir.checkpoints.load()
    require_same_network(checkpoint, config, run_dir.path)
    network = build_network(config.network)
    network.load_state_dict(checkpoint.average)
    return Trained(config, network.eval(), checkpoint.step, "best" if best else "last", checkpoint.pack_digest)


def load_network(run_dir: RunDir) -> tuple[RunConfig, Network]:
    """Config and network of :func:`load_trained`."""
    trained = load_trained(run_dir)
    return trained.config, trained.network


def require_same_network(checkpoint: Checkpoint, config: RunConfig, folder: Path) -> None:
    """Raises CheckpointError, naming both, when a checkpoint is of another network than the run's config says."""
    theirs, ours = checkpoint.run_config().network, config.network
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} in {folder} is of another network than its config.json:\n"
            f"  checkpoint: {theirs!r}\n  config.json: {ours!r}\nPut back the file that belongs there"
        )
