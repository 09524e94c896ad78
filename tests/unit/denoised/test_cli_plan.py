"""What a run is to do: every input is in one list, and outputs never meet."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoised.cli.plan import NOT_A_FILE, NOT_LISTED, OUTPUT_TWICE, Plan, Shard, is_one_file, plan_file, plan_folder


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def outputs(plan: Plan, below: Path) -> list[str]:
    return [job.target.relative_to(below).as_posix() for job in plan.jobs]


def test_every_file_of_a_folder_is_in_one_list(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "b.png", "a.JPG", "trip/c.jpeg", "trip/notes.txt", ".hidden.png", "._a.jpg")
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False)
    assert outputs(plan, tmp_path / "out") == ["a.JPG", "b.png", "trip/c.jpeg"]
    assert {passed.source.name: passed.why for passed in plan.skipped} == {
        "notes.txt": "no .png, .jpg, .jpeg",
        ".hidden.png": "hidden",
        "._a.jpg": "hidden",
    }
    assert plan.input_count == 6


def test_a_link_to_a_folder_is_counted_and_not_followed(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png")
    (photos / "again").symlink_to(photos, target_is_directory=True)
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False)
    assert outputs(plan, tmp_path / "out") == ["a.png"]
    assert [passed.why for passed in plan.skipped] == ["a link to a folder is not followed"]


def test_what_is_no_file_is_refused_and_a_broken_link_fails_when_it_is_read(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False)
    assert [(passed.source.name, passed.reason) for passed in plan.refused] == [("pipe.png", NOT_A_FILE)]
    assert outputs(plan, tmp_path / "out") == ["a.png", "gone.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root: run the tests as somebody else")
def test_a_folder_that_may_not_be_listed_is_a_failure(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png", "private/b.png")
    (photos / "private").chmod(0)
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False)
    (photos / "private").chmod(0o700)
    assert [passed.reason for passed in plan.refused] == [NOT_LISTED]
    assert plan.input_count == 2


def test_two_inputs_with_one_output_are_one_job_and_one_failure(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.jpg", "a.png", "b.png")
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False, container="png")
    assert outputs(plan, tmp_path / "out") == ["a.png", "b.png"]
    (refused,) = plan.refused
    assert (refused.source.name, refused.reason) == ("a.png", OUTPUT_TWICE)
    assert "a.jpg too" in refused.why


def test_a_format_changes_the_endings_that_are_not_of_it(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png", "b.JPEG", "c.jpg")
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=False, container="jpeg")
    assert outputs(plan, tmp_path / "out") == ["a.jpeg", "b.JPEG", "c.jpg"]


def test_patterns_mirror_what_is_below_their_plain_part(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png", "x/b.png", "x/y/c.png", "x/d.jpg")
    plan = plan_folder([f"{photos}/**/*.png"], tmp_path / "out", skip_existing=False)
    assert outputs(plan, tmp_path / "out") == ["a.png", "x/b.png", "x/y/c.png"]
    plan = plan_folder([f"{photos}/x/*"], tmp_path / "out", skip_existing=False)
    assert outputs(plan, tmp_path / "out") == ["b.png", "d.jpg"]


def test_a_name_that_looks_like_a_pattern_is_a_name_where_it_exists(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a[1].png")
    assert is_one_file([str(photos / "a[1].png")])
    assert not is_one_file([str(photos / "b[1].png")])


def test_files_go_by_their_names_and_the_same_name_twice_is_a_failure(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "x/a.png", "y/a.png", "y/b.png")
    inputs = [str(photos / name) for name in ("x/a.png", "y/a.png", "y/b.png")]
    plan = plan_folder(inputs, tmp_path / "out", skip_existing=False)
    assert outputs(plan, tmp_path / "out") == ["a.png", "b.png"]
    assert [passed.reason for passed in plan.refused] == [OUTPUT_TWICE]


def test_outputs_among_the_inputs_are_refused(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png")
    for inputs, target in (
        ([str(photos)], photos / "out"),
        ([f"{photos}/**/*.png"], photos / "out"),
        ([str(photos / "a.png"), str(photos)], photos),
        ([f"{photos}/*.png"], photos),
    ):
        with pytest.raises(ValueError, match="input"):
            plan_folder(inputs, target, skip_existing=False)
    plan = plan_folder([f"{photos}/*.png"], photos / "out", skip_existing=False)
    assert outputs(plan, photos) == ["out/a.png"]


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.png"])
def test_what_does_not_exist_or_match_is_an_error_and_no_empty_run(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        plan_folder([str(tmp_path / text)], tmp_path / "out", skip_existing=False)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
        plan_file(tmp_path / "nowhere.png", tmp_path / "out.png", skip_existing=False)


def test_what_exists_is_skipped_when_asked(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", "a.png", "b.png")
    made(tmp_path / "out", "a.png")
    plan = plan_folder([str(photos)], tmp_path / "out", skip_existing=True)
    assert outputs(plan, tmp_path / "out") == ["b.png"]
    assert plan_file(photos / "a.png", tmp_path / "out" / "a.png", skip_existing=True).jobs == ()


@given(st.integers(1, 9), st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), max_size=30))
def test_shards_hold_every_place_once(count: int, names: list[str]) -> None:
    for name in names:
        assert sum(Shard(index, count).holds(Path(name)) for index in range(count)) == 1


def test_shards_of_a_folder_add_up_to_it(tmp_path: Path) -> None:
    photos = made(tmp_path / "in", *(f"{number}.png" for number in range(40)), "notes.txt")
    plans = [
        plan_folder([str(photos)], tmp_path / "out", skip_existing=False, shard=Shard(index, 3)) for index in range(3)
    ]
    assert sum(plan.input_count for plan in plans) == 41
    assert sorted(name for plan in plans for name in outputs(plan, tmp_path / "out")) == sorted(
        f"{number}.png" for number in range(40)
    )
    assert all(plan.jobs for plan in plans)


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/3", "a/b", "1/0", "1/2/3"])
def test_wrong_shards_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="i/n"):
        Shard.parse(text)
