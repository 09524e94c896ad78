"""A run's network as it is measured, exported and shown: averaged weights, eval mode, on the CPU."""

import warnings
from pathlib import Path
from typing import Literal, NamedTuple

from denoised.contract import SampleLevels
from training.config import RunConfig
from training.errors import CheckpointError
from training.networks import Network, build_network
from training.run.checkpoint import Checkpoint, Checkpoints
from training.run.differences import differences_in_words
from training.run.directory import RunDir

Weights = Literal["best", "last"]


class Trained(NamedTuple):
    """A network and where it comes from.

    Attributes:
        config: that these weights were trained with, as their checkpoint says.
        network: with the averaged weights.
        step: that they are from.
        weights: ``best`` by the run's selection metric, or ``last``.
        pack_digest: of the images that it was trained on.
        levels: their black and white.
    """

    config: RunConfig
    network: Network
    step: int
    weights: Weights
    pack_digest: str
    levels: SampleLevels


def load_trained(run_dir: RunDir, weights: Weights | None = None) -> Trained:
    """The averaged weights of the best checkpoint, or those asked for.

    Of the last one, where nothing is asked for and the run measured none, or with a warning where the best is damaged.
    What they were trained with and on is told by the checkpoint; config.json may have been changed since, and a warning
    says so.

    Raises:
        RunError: there is no run, no such checkpoint, it is damaged, or of another network.
    """
    beside = run_dir.load_config()
    best = None if weights == "last" else _best(run_dir.checkpoints, is_asked_for=weights == "best")
    if weights == "best" and best is None:
        raise CheckpointError(
            f"{run_dir.path} has no best checkpoint: nothing was held out, or no checkpoint was measured yet; take the "
            "last one"
        )
    checkpoint = best or run_dir.checkpoints.load()
    require_same_network(checkpoint, beside, run_dir.path)
    config = checkpoint.run_config()
    changed = differences_in_words(config, beside)
    if changed:
        warnings.warn(
            f"{run_dir.config_path} was changed since step {checkpoint.step}: {changed}; what the checkpoint says is "
            "taken",
            RuntimeWarning,
            stacklevel=2,
        )
    network = build_network(config.network)
    network.load_state_dict(checkpoint.average)
    return Trained(
        config=config,
        network=network.eval(),
        step=checkpoint.step,
        weights="best" if best else "last",
        pack_digest=checkpoint.pack_digest,
        levels=checkpoint.levels,
    )


def require_same_network(checkpoint: Checkpoint, config: RunConfig, folder: Path) -> None:
    """Raises CheckpointError, naming both, when a checkpoint is of another network than the run's config says."""
    theirs, ours = checkpoint.run_config().network, config.network
    if theirs != ours:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} in {folder} is of another network than its config.json:\n"
            f"  checkpoint: {theirs!r}\n  config.json: {ours!r}\nPut back the file that belongs there"
        )


def _best(checkpoints: Checkpoints, *, is_asked_for: bool) -> Checkpoint | None:
    """None where none was marked, or with a warning where it is damaged and not asked for by name."""
    try:
        return checkpoints.load_best()
    except CheckpointError as error:
        if is_asked_for:
            raise CheckpointError(f"{error}, or take the last checkpoint") from error
        warnings.warn(f"{error}; the last checkpoint is taken meanwhile", RuntimeWarning, stacklevel=3)
        return None
