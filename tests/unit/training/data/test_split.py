"""The split keeps together what belongs together, and depends on names alone."""

import pytest

pytest.importorskip("cv2")

from hypothesis import given
from hypothesis import strategies as st

from training.data.split import Split, split
from training.errors import DataError

pytestmark = pytest.mark.training


def split_of(names: list[str], **options: str | None) -> Split:
    return split(names, [f"content of {name}" for name in names], **options)


def held_out(names: list[str], parts: Split) -> set[str]:
    return {name for name, is_out in zip(names, parts.held_out, strict=True) if is_out}


def test_of_one_folder_one_file_in_twenty_is_held_out() -> None:
    names = [f"{index:03}.png" for index in range(100)]
    assert len(held_out(names, split_of(names))) == 5


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (4, 0), (5, 1), (39, 1), (40, 2)])
def test_one_is_held_out_from_five_images_on(count: int, expected: int) -> None:
    names = [f"{index:03}.png" for index in range(count)]
    parts = split_of(names)
    assert sum(parts.held_out) == expected
    assert ("nothing held out" in parts.rule) == (expected == 0)


def test_whole_folders_are_held_out_where_there_are_several() -> None:
    names = [f"{folder}/{index}.png" for folder in "abcdefghij" for index in range(7)]
    parts = split_of(names)
    out = held_out(names, parts)
    assert len(out) == 7
    assert len({name[0] for name in out}) == 1


def test_of_two_large_folders_the_smaller_is_held_out() -> None:
    names = [f"a/{index}.png" for index in range(30)] + [f"b/{index}.png" for index in range(20)]
    assert {name[0] for name in held_out(names, split_of(names))} == {"b"}


def test_a_folder_that_would_hold_out_too_much_is_passed_over() -> None:
    names = [f"a/{index}.png" for index in range(80)] + [f"{folder}/0.png" for folder in "bcdefghijk"]
    assert "a" not in {name[0] for name in held_out(names, split_of(names))}


def test_pages_of_a_stack_stay_together() -> None:
    names = [f"stack{stack}.tif#{page}" for stack in range(30) for page in range(11)]
    parts = split_of(names)
    out = {name.split("#")[0] for name in held_out(names, parts)}
    assert sum(parts.held_out) == 11 * len(out)
    assert 1 <= len(out) <= 2


def test_one_stack_alone_is_one_specimen_and_the_rule_says_what_to_do() -> None:
    parts = split_of([f"x.tif#{page}" for page in range(1000)])
    assert not any(parts.held_out)
    assert "--group-by" in parts.rule


def test_blocks_of_pages_can_be_told_apart_by_an_expression() -> None:
    names = [f"x.tif#{page}" for page in range(1000)]
    parts = split_of(names, group_by=r".*#\d*?(?=\d?\d?$)")
    assert sorted(set(parts.groups)) == ["x.tif#", *(f"x.tif#{block}" for block in range(1, 10))]
    assert sum(parts.held_out) == 100


def test_specimens_are_told_apart_by_what_an_expression_captures() -> None:
    names = [f"{folder}/s{specimen}_{frame}.tif" for folder in "ab" for specimen in range(10) for frame in range(3)]
    parts = split_of(names, group_by=r"s(\d+)_")
    assert set(parts.groups) == {str(specimen) for specimen in range(10)}
    # Both folders' frames of a specimen.
    assert sum(parts.held_out) == 6


def test_each_file_can_be_a_group_whatever_its_folder() -> None:
    names = [f"{folder}/{index}.png" for folder in "ab" for index in range(50)]
    assert sum(split_of(names, group_by="[^#]+").held_out) == 5


def test_an_expression_that_misses_names_or_is_none_is_refused() -> None:
    with pytest.raises(DataError, match=r"matches nothing in 1 of 2 names, such as b\.png"):
        split_of(["a1.png", "b.png"], group_by=r"\d")
    with pytest.raises(DataError, match="no regular expression"):
        split_of(["a.png"], group_by="(")


def test_images_of_one_content_stay_together() -> None:
    # Real pairs: many noisy images of one clean one.
    names = [f"{index:03}.png" for index in range(60)]
    contents = [f"scene {index % 6}" for index in range(60)]
    parts = split(names, contents)
    assert sum(parts.held_out) == 10
    assert len({content for content, out in zip(contents, parts.held_out, strict=True) if out}) == 1


NAMES = st.lists(
    st.builds("{}/{}.tif#{}".format, st.sampled_from("abcd"), st.integers(0, 20), st.integers(0, 9)),
    unique=True,
    min_size=1,
    max_size=60,
)


@given(names=NAMES, data=st.data())
def test_no_group_and_no_content_is_on_both_sides_and_the_order_is_no_matter(
    names: list[str], data: st.DataObject
) -> None:
    contents = [data.draw(st.sampled_from("vwxyz")) + name for name in names]
    parts = split(names, contents)
    for keys in (parts.groups, contents):
        sides: dict[str, set[bool]] = {}
        for key, is_out in zip(keys, parts.held_out, strict=True):
            sides.setdefault(key, set()).add(is_out)
        assert all(len(side) == 1 for side in sides.values())
    assert not all(parts.held_out)
    order = data.draw(st.permutations(range(len(names))))
    again = split([names[index] for index in order], [contents[index] for index in order])
    assert list(again.held_out) == [parts.held_out[index] for index in order]
