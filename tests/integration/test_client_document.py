"""``docs/client.md``: its commands and examples run as they stand there, against a real service."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import denoised
from denoised import AsyncClient, Client
from denoised.cli import main
from tests.integration.harness import RunningService
from tests.integration.pictures import noisy, png

_TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")


def commands(section: str) -> list[str]:
    lines = _TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [line.strip() for line in lines if line.startswith("    denoised ")]


def examples(section: str) -> list[str]:
    parts = _TEXT.partition(f"## {section}\n")[2].partition("\n## ")[0].split("```python\n")[1:]
    return [part.partition("```")[0] for part in parts]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: RunningService) -> Path:
    """Where the texts are played: a noisy image, and a folder with two."""
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for name in ("noisy.png", "photos/a.png", "photos/trip/b.png"):
        (tmp_path / name).write_bytes(png(noisy(1, 40, 50)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DENOISED_SERVER", served.grpc_target)
    return tmp_path


def test_every_command_runs(place: Path) -> None:
    found = [line for line in [*commands("Cookbook"), *commands("Command line")] if "/data/" not in line]
    assert len(found) >= 12
    for line in found:
        words, stdin = shlex.split(line)[1:], None
        if "<noisy.png" in words:
            words, stdin = [word for word in words if word[0] not in "<>"], (place / "noisy.png").read_bytes()
        result = CliRunner().invoke(main, words, input=stdin)
        assert result.exit_code == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    for name in ("clean.png", "clean.jpg", "cleaned/trip/b.png", "jpegs/a.jpeg", "difference.png", "reported.html"):
        assert (place / name).exists(), name
    assert not (place / "elsewhere").exists()


def test_the_shard_of_a_pod_runs_with_its_index(place: Path) -> None:
    (line,) = (line for line in commands("Cookbook") if "/data/" in line)
    (place / "data").mkdir()
    (place / "photos").rename(place / "data" / "in")
    for index in range(4):
        text = line.replace("$(JOB_COMPLETION_INDEX)", str(index)).replace("/data/", f"{place}/data/")
        result = CliRunner().invoke(main, shlex.split(text)[1:])
        assert result.exit_code == 0, result.output
    assert len(list((place / "data" / "out").rglob("*.png"))) == 2


def test_the_recipes_run(place: Path, served: RunningService) -> None:
    stack = noisy(2, 3 * 30, 40, 1).reshape(3, 30, 40).astype(np.uint16) * np.uint16(16)
    np.save("stack.npy", stack)
    of_a_stack, of_a_video = examples("Cookbook")
    names: dict[str, Any] = vars(denoised) | {"np": np, "Client": partial(Client, served.grpc_target)}
    exec(of_a_stack, names)
    cleaned = np.load("cleaned.npy")
    assert (cleaned.shape, cleaned.dtype) == (stack.shape, stack.dtype)
    assert all(np.any(cleaned[page] != stack[page]) for page in range(3))

    async def frames() -> AsyncIterator[np.ndarray[Any, Any]]:
        for seed in range(5):
            yield noisy(seed, 24 + seed, 32)

    names["AsyncClient"] = partial(AsyncClient, served.grpc_target)
    exec(of_a_video, names)

    async def collect() -> list[Any]:
        return [frame async for frame in names["cleaned_frames"](frames())]

    assert [frame.shape[0] for frame in asyncio.run(collect())] == [24, 25, 26, 27, 28]
