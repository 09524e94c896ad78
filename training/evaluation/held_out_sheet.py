"""A sheet of held-out pictures at every checkpoint, so that a run can be looked at: in ``samples/`` and TensorBoard."""

from collections.abc import Callable

import numpy as np
import torch

from training.config import RunConfig
from training.data.pack import Pack
from training.evaluation.grids import Row, draw_sheet, residual_picture, save_png
from training.networks import Network
from training.run.directory import RunDir
from training.run.log import RunLog
from training.run.validation import Validator

_MOST_ROWS = 4
_HEADS = ("noisy", "output", "clean", "residual x8")


def sheet_drawer(config: RunConfig, pack: Pack, run_dir: RunDir) -> Callable[[int, Network, RunLog], None]:
    """What draws the sheet: for ``on_checkpoint`` of a run. The same pictures each time, the newest sheet is kept."""
    validator = Validator(config, pack)

    @torch.no_grad()
    def draw(step: int, network: Network, log: RunLog) -> None:
        device = next(iter(network.state_dict().values())).device
        rows = []
        for file, noisy, clean in validator.examples(_MOST_ROWS):
            image = network(torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None].to(device)).image
            output = image[0].float().clamp(0, 1).cpu().numpy().transpose(1, 2, 0)
            rows.append(Row((noisy, output, clean, residual_picture(output, clean)), file))
        if rows:
            sheet = draw_sheet(_HEADS, rows)
            save_png(sheet, run_dir.samples_path / "held-out.png")
            log.add_image("held_out", np.asarray(sheet), step)

    return draw
