"""A run of a network that is solved at once (PCA): the same files as any other run, so that every verb takes it."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from training.config import RunConfig
from training.data.pack import Pack
from training.errors import RunError
from training.networks import Network, PrincipalComponents, build_network
from training.run.checkpoint import Checkpoint, Checkpoints
from training.run.log import RunLog
from training.run.machine import description
from training.run.validation import HeldOut, Validator

_BATCH = 256


def solve(
    config: RunConfig,
    pack: Pack,
    device: torch.device,
    checkpoints: Checkpoints,
    log: RunLog,
    *,
    show_progress: bool,
    on_checkpoint: Callable[[int, Network, RunLog], None],
) -> HeldOut | None:
    """Fits the network to every training image, each cut into whole squares; one checkpoint, one line of the log.

    Raises:
        RunError: the network is of no kind that can be solved.
        DataError: too few images.
    """
    network = build_network(config.network).to(device)
    if not isinstance(network, PrincipalComponents):
        raise RunError(f"network.kind is {config.network.kind}; it is trained by steps, not solved")
    network.fit(_squares(pack, config, device, show_progress=show_progress))
    network.eval()
    held_out = Validator(config, pack).measure(network, device)
    weights = network.state_dict()
    checkpoints.save(
        Checkpoint(
            step=1,
            config=config.to_json(),
            pack_digest=pack.manifest.digest,
            network=weights,
            average=weights,
            average_update_count=1,
            optimiser={},
            progress={},
            machine=description(device, 1),
            levels=pack.manifest.levels,
        )
    )
    log.write({"step": 1, **({} if held_out is None else held_out.record())})
    on_checkpoint(1, network, log)
    return held_out


def _squares(pack: Pack, config: RunConfig, device: torch.device, *, show_progress: bool) -> Iterator[Tensor]:
    """(N, C, side, side) batches of all training images."""
    side_px = config.data.crop_px
    waiting: list[Tensor] = []
    for image in tqdm(pack.training_images(), unit="image", disable=None if show_progress else True):
        for top in range(0, image.height_px - side_px + 1, side_px):
            for left in range(0, image.width_px - side_px + 1, side_px):
                unit = pack.unit(image, slice(top, top + side_px), slice(left, left + side_px))
                waiting.append(torch.from_numpy(unit.transpose(2, 0, 1).copy()))
                if len(waiting) == _BATCH:
                    yield torch.stack(waiting).to(device)
                    waiting = []
    if waiting:
        yield torch.stack(waiting).to(device)
