"""The pack and the config that the tests of the training program share."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.integration.training.verbs import CONFIG, called, write_pictures


@pytest.fixture(scope="session")
def pack_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    called("prepare", write_pictures(folder / "images", 40, 24), "--to", folder / "pack", "--channels", "1")
    return folder / "pack"


@pytest.fixture(scope="session")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path
