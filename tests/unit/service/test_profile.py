"""Profiles: the fit, the table, the file and what a service refuses of it, and a real run over a tiny model."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.contract import ModelContract
from service.__main__ import main
from service.cost import ShapeCost
from service.cpu import usable_core_count
from service.engine import EngineOptions, engine_options
from service.profile import Profile, ProfileRefused, profile_models, profile_table, read_profile, write_profile
from service.profile.file import ModelProfile, ShapeProfile
from service.profile.fit import best_count, fit_cost
from service.profile.measure import batch_counts
from service.registry import load_models

OPTIONS = EngineOptions(lane_count=2, wide_thread_count=2, batch_pixel_count=64 * 64)
positive = st.floats(1e-6, 1e3)


def shape(edge_px: int, *, per_unit_s: float = 0.5, fixed_s: float = 0.25) -> ShapeProfile:
    return ShapeProfile(
        height_px=edge_px,
        width_px=edge_px,
        seconds_by_count={1: 0.5, 2: 0.8, 4: 1.6},
        per_unit_s=per_unit_s,
        fixed_s=fixed_s,
        wide_s=0.3,
    )


@pytest.fixture
def profile() -> Profile:
    model = ModelProfile(
        name="a", version="2", digest="f00d" * 16, gmac_per_megapixel=20.0, spread=1.25, shapes=[shape(100), shape(200)]
    )
    return Profile.of(OPTIONS, [model, model.model_copy(update={"name": "b", "spread": 1.5})])


@given(per_unit_s=positive, fixed_s=positive, sizes=st.sets(st.integers(1, 64), min_size=2, max_size=7))
def test_a_line_is_found_again(per_unit_s: float, fixed_s: float, sizes: set[int]) -> None:
    cost = fit_cost({size: per_unit_s * size + fixed_s for size in sizes})
    for size in sizes:
        assert cost.per_unit_s * size + cost.fixed_s == pytest.approx(per_unit_s * size + fixed_s, rel=1e-4)


@given(seconds=st.dictionaries(st.integers(1, 64), positive, min_size=1, max_size=7))
def test_whatever_was_measured_neither_part_is_negative_and_one_is_not_zero(seconds: dict[int, float]) -> None:
    cost = fit_cost(seconds)
    assert cost.per_unit_s >= 0
    assert cost.fixed_s >= 0
    fitted = [cost.per_unit_s * size + cost.fixed_s for size in seconds]
    ratios = [one / measured for one, measured in zip(fitted, seconds.values(), strict=True)]
    # Least squares of relative errors: at least as good as saying 0 for all.
    assert np.sum((np.array(ratios) - 1) ** 2) <= len(ratios)


def test_batches_that_gain_more_than_they_can_have_no_fixed_part() -> None:
    assert fit_cost({1: 1.0, 2: 3.0, 4: 7.0}).fixed_s == 0.0


def test_batches_that_get_cheaper_as_they_grow_have_no_part_for_each_unit() -> None:
    assert fit_cost({1: 2.0, 2: 1.0}).per_unit_s == 0.0


def test_one_batch_size_is_all_pace() -> None:
    assert fit_cost({4: 2.0}) == ShapeCost(0.5, 0.0)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 1),
        ({1: 1.0, 2: 1.5, 4: 2.95}, 2),
        ({1: 1.0, 2: 1.5, 4: 2.0, 8: 5.0}, 4),
        ({1: 1.0, 2: 2.0, 4: 3.0}, 4),
    ],
)
def test_the_best_batch_is_the_last_that_is_worth_it(seconds: dict[int, float], best: int) -> None:
    assert best_count(seconds) == best


@pytest.mark.parametrize(
    ("limit", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_batches_double_up_to_the_limit(limit: int, counts: list[int]) -> None:
    assert batch_counts(limit) == counts


def test_what_was_written_is_read_again(tmp_path: Path, profile: Profile) -> None:
    path = tmp_path / "profile.json"
    write_profile(profile, path)
    assert read_profile(path) == profile
    assert [each.name for each in tmp_path.iterdir()] == ["profile.json"]


def test_a_model_costs_what_was_measured_and_other_shapes_the_largest_ones_pace(profile: Profile) -> None:
    cost = profile.cost_of(("b", "2"), "f00d" * 16)
    assert cost.of(100, 100) == ShapeCost(0.5, 0.25)
    assert cost.of(400, 100).per_unit_s == pytest.approx(0.75)
    assert profile.spread() == 1.5


def test_a_profile_of_this_machine_is_taken(profile: Profile) -> None:
    profile.check(OPTIONS)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("onnxruntime", "1.0"),
        ("provider", "cuda"),
        ("lane_count", 7),
        ("threads_per_lane", 7),
        ("wide_thread_count", 7),
    ],
)
def test_a_profile_of_another_machine_is_refused_by_what_differs(profile: Profile, name: str, there: Any) -> None:
    other = profile.model_copy(update={name: there})
    with pytest.raises(ProfileRefused, match=f"{name} is {there} there and .* here; measure again with: python -m"):
        other.check(OPTIONS)


def test_a_profile_of_another_file_is_refused_with_both_digests(profile: Profile) -> None:
    with pytest.raises(
        ProfileRefused, match=r"another file of a/2: its digest is f00df00df00d.. there and beefbeefbeef"
    ):
        profile.cost_of(("a", "2"), "beef" * 16)


def test_a_model_that_was_not_measured_is_refused_with_those_that_were(profile: Profile) -> None:
    with pytest.raises(ProfileRefused, match="does not know c/1, only: a/2, b/2; measure again"):
        profile.cost_of(("c", "1"), "f00d" * 16)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"lane_count": 0}, "lane_count: Input should be greater than or equal to 1"),
        ({"cores": 2}, "cores: Extra inputs are not permitted"),
        ({"models": []}, "models: List should have at least 1 item"),
    ],
)
def test_a_file_with_wrong_values_is_refused_by_them(
    tmp_path: Path, profile: Profile, change: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(json.loads(profile.model_dump_json()) | change))
    with pytest.raises(ProfileRefused, match=f"profile.json is no profile of this release: {problem}.*measure again"):
        read_profile(path)


def test_a_cost_of_nothing_in_a_file_is_refused(tmp_path: Path, profile: Profile) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile.model_dump_json().replace('"per_unit_s":0.5,"fixed_s":0.25', '"per_unit_s":0,"fixed_s":0'))
    with pytest.raises(ProfileRefused, match=r"models\.0\.shapes\.0: .* together they must be positive"):
        read_profile(path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("lanes: 2")
    with pytest.raises(ProfileRefused, match=r"profile\.json is no profile of this release: the file: Invalid JSON"):
        read_profile(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileRefused, match=r"cannot read the profile .*absent\.json: No such file"):
        read_profile(tmp_path / "absent.json")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, profile: Profile) -> None:
    with pytest.raises(ProfileRefused, match=r"can't be written to .*: No such file or directory; name another file"):
        write_profile(profile, tmp_path / "absent" / "profile.json")


def test_the_table_counts_all_lanes_at_the_best_batch(profile: Profile) -> None:
    lines = profile_table(profile).splitlines()
    assert "2 lanes of 1 threads at once; the wide lane has 2" in lines[0]
    assert lines[2] == "a/2: a slow batch takes 1.25 times the median (95th percentile)"
    # Two lanes, two units in 0.8 s: 5 images/s of 10,000 pixels at 20 GMAC a megapixel.
    assert lines[4].split("  ")[-1].strip() == "300.00"
    assert lines[4].split()[3:] == ["2", "500.000", "250.000", "5.0", "4.0", "1.0", "500.00", "300.00"]


@pytest.fixture
def store(tmp_path: Path, contract: ModelContract, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model store that the settings name, with one tiny model."""
    pytest.importorskip("onnx", reason="model files are made with onnx, which the extra 'training' brings")
    from tests.tiny_models import dimmer

    path = tmp_path / "store" / "gaussian-base" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(dimmer(replace(contract, unit_edges_px=(16, 32)), gain=0.5))
    monkeypatch.setenv("DENOISED_MODELS_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("DENOISED_LANE_COUNT", "2")
    return tmp_path / "store"


def test_every_shape_of_a_real_model_is_measured(store: Path) -> None:
    """With a clock that ticks once each time it is asked, every run takes a tick or, across lanes, a few."""
    models = list(load_models(store, OPTIONS))
    ticks: Iterator[int] = count()
    progress: list[tuple[str, int, int]] = []
    profile = profile_models(
        models,
        OPTIONS,
        repeat_count=3,
        on_progress=lambda *what: progress.append(what),
        clock=lambda: float(next(ticks)),
    )
    assert [text for text, _, _ in progress] == [
        f"gaussian-base/1 {size}" for size in ("16 x 16", "16 x 32", "32 x 16", "32 x 32")
    ]
    assert [(done, total) for _, done, total in progress] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    profile.check(OPTIONS)
    cost = profile.cost_of(models[0].key, models[0].digest)
    assert set(cost.shapes) == {(16, 16), (16, 32), (32, 16), (32, 32)}
    assert all(each.wide_s == 1.0 for each in profile.models[0].shapes)
    assert all({1, 2, 4} <= set(each.seconds_by_count) for each in profile.models[0].shapes)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["service", "profile", *arguments])
    return main()


def test_the_command_prints_a_table_and_writes_a_file_that_is_right_for_these_models(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.json"
    assert command(monkeypatch, "--repeats", "1", "--to", str(path)) == 0
    printed = capsys.readouterr()
    assert "gaussian-base/1: a slow batch takes" in printed.out
    assert "gaussian-base/1 32 x 32" in printed.err
    options = engine_options(usable_core_count(), lane_count=2, threads_per_lane=1, batch_pixel_count=1)
    profile = read_profile(path)
    profile.check(options)
    (loaded,) = load_models(store, options)
    assert profile.cost_of(loaded.key, loaded.digest).of(32, 32).per_unit_s >= 0


@pytest.mark.usefixtures("store")
def test_the_command_says_when_no_model_matches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--model", "poisson-*") == 1
    assert "nothing was measured: the model store" in (printed := capsys.readouterr().err)
    assert "holds no poisson-*/<version>/model.onnx" in printed


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("repeats", ["0", "-1", "many"])
def test_the_command_refuses_to_measure_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repeats: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, "--repeats", repeats)
    assert stopped.value.code == 2
    assert f"{repeats!r} is not a whole number of at least 1" in capsys.readouterr().err
