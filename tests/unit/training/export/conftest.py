"""What the tests of export share: one thread, one small pack."""

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import packed
from training.data.pack import Pack


@pytest.fixture(scope="package", autouse=True)
def _one_thread_of_the_processor() -> Iterator[None]:
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(thread_count)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Six grey pictures, one of them at least held out."""
    return Pack(packed(tmp_path_factory.mktemp("packed"), [80] * 6))
