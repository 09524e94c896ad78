"""The dry run and the measurement of speed: true figures, and nothing left behind."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.unit.training.run.tiny import PCA, tiny_config
from training.data.pack import Pack
from training.errors import ConfigError, RunError
from training.networks import build_network, macs_per_pixel
from training.run.benchmark import measure_speed
from training.run.plan import make_plan

pytestmark = pytest.mark.training


def test_the_plan_counts_what_the_run_would_do(pack: Pack, tmp_path: Path) -> None:
    config = tiny_config(optimiser={"accumulation": 3})
    plan = make_plan(config, pack, tmp_path / "not" / "there", workers=0)
    network = build_network(config.network)
    assert plan.parameter_count == sum(parameter.numel() for parameter in network.parameters())
    assert plan.step_gmac == pytest.approx(macs_per_pixel(network, side_px=16) * 256 * 2 * 3 * 3 / 1e9)
    assert plan.training_images + plan.held_out_images == 20
    assert plan.disk_bytes == plan.parameter_count * 4 * 4 * 3
    assert plan.step_s is not None
    assert plan.validation_s is not None
    assert plan.duration_s == pytest.approx(12 * plan.step_s + 3 * plan.validation_s)
    assert plan.memory_bytes is not None
    text = plan.text()
    assert "12 of 6 samples: 72 samples, 14.4 epochs of 5" in text
    assert "nan" not in text
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_a_network_that_is_solved_has_no_steps(pack: Pack, tmp_path: Path) -> None:
    plan = make_plan(tiny_config(network=PCA), pack, tmp_path)
    assert plan.duration_s is None
    assert "solved at once" in plan.text()


def test_a_disk_too_small_is_told(pack: Pack, tmp_path: Path) -> None:
    from dataclasses import replace

    plan = make_plan(tiny_config(network=PCA), pack, tmp_path)
    assert "WARNING" not in plan.text()
    assert "will not fit" in replace(plan, disk_free_bytes=10).text()


def test_images_of_other_channels_are_refused_before_anything_is_measured(pack: Pack, tmp_path: Path) -> None:
    config = tiny_config(network={**tiny_config().network.model_dump(), "channels": 3})
    for tell in (lambda: make_plan(config, pack, tmp_path), lambda: measure_speed(config, pack)):
        with pytest.raises(RunError, match="channels"):
            tell()


def test_the_speed_is_stated_beside_a_plain_loops(pack: Pack) -> None:
    speed = measure_speed(tiny_config(), pack, workers=1, seconds=0.2)
    assert speed.step_count >= 10
    assert speed.samples_per_s > 0
    assert speed.plain_samples_per_s > 0
    assert 0 <= speed.data_wait_share <= 1
    assert f"Ratio {speed.samples_per_s / speed.plain_samples_per_s:.2f}" in speed.text()


def test_a_network_without_steps_has_no_speed(pack: Pack) -> None:
    with pytest.raises(ConfigError, match="solved at once"):
        measure_speed(tiny_config(network=PCA), pack)
