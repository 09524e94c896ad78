"""What the tests of runs share: one thread, no GPU, one small pack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from tests.unit.training.run.tiny import packed
from training.data.pack import Pack


@pytest.fixture(scope="package", autouse=True)
def _one_thread_of_the_processor() -> Iterator[None]:
    """Sums come out bit for bit the same only in one order."""
    thread_count = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(thread_count)


@pytest.fixture(scope="session")
def pack_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, some of them held out."""
    return packed(tmp_path_factory.mktemp("packed"), [24] * 20)


@pytest.fixture(scope="session")
def pack(pack_path: Path) -> Pack:
    return Pack(pack_path)
