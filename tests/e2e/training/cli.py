"""The images that training commands work on, a run that is killed, and what a service makes of the result."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from denoised import Client
from denoised.noise import keyed_rng
from service.demo.process import running_service
from tests.integration.training.verbs import started
from training.data.synthetic import draw_picture

_KILL_POLL_S = 0.01


def train_until_killed(config: Path, *, data: Path, run: Path, after: Path) -> None:
    """Trains and is killed without warning once the file ``after`` exists."""
    with started("train", config, "--data", data, "--run", run) as process:
        try:
            while not after.exists():
                assert process.poll() is None, f"the run ended before it could be killed: {process.communicate()[1]}"
                time.sleep(_KILL_POLL_S)
        finally:
            process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def write_pictures(folder: Path, *, count: int, side_px: int, channels: int = 3, first: int = 0) -> None:
    """Generated pictures as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, first + count):
        picture = draw_picture(keyed_rng(index), side_px=side_px, channels=channels)
        samples = np.rint(picture * 255).astype(np.uint8)
        PillowImage.fromarray(samples if channels == 3 else samples[:, :, 0]).save(folder / f"{index:04d}.png")


@contextmanager
def served(store: Path, *, model: str) -> Iterator[Client]:
    """A client of a running service with this model store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DENOISED_MODELS_DIR", str(store))
        patch.setenv("DENOISED_DEFAULT_MODEL", model)
        with running_service() as service, Client(service.grpc_target) as client:
            yield client
