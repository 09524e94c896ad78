"""Whether config, pack and checkpoint belong together, before a step is made of them."""

from pathlib import Path
from typing import Any

from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import require_supervision
from training.errors import RunError
from training.run.checkpoint import Checkpoint
from training.run.differences import differences_in_words
from training.run.trained import require_same_network


def require_fitting_pack(config: RunConfig, pack: Pack) -> None:
    """Raises RunError or DataError when the images have other channels than the network, or are of another kind."""
    require_supervision(config.data, pack)
    channels = pack.manifest.channels
    if channels != config.network.channels:
        raise RunError(
            f"the packed images have {channels} channels, the network takes {config.network.channels}; "
            "prepare the images again or change network.channels"
        )


def require_continuable(checkpoint: Checkpoint, config: RunConfig, pack: Pack, folder: Path) -> None:
    """Raises CheckpointError or RunError when a checkpoint is of another network, or saw other images."""
    require_same_network(checkpoint, config, folder)
    digest = pack.manifest.digest
    if checkpoint.pack_digest != digest:
        raise RunError(
            f"the run in {folder} was trained on the pack {checkpoint.pack_digest[:12]}, and --data names "
            f"{digest[:12]}; name the same pack, or begin a new run with --start-from {folder}"
        )


def changes_since(checkpoint: Checkpoint, config: RunConfig, machine: dict[str, Any]) -> list[str]:
    """What differs from the run's beginning and makes its end another one, in words."""
    notes = []
    changed = differences_in_words(checkpoint.run_config(), config)
    if changed:
        notes.append(f"config.json was changed since step {checkpoint.step}: {changed}")
    listed = ", ".join(
        f"{key} {checkpoint.machine.get(key)} -> {value}"
        for key, value in machine.items()
        if checkpoint.machine.get(key) != value
    )
    if listed:
        notes.append(f"the run goes on under other conditions, and its last bits will differ: {listed}")
    return notes
