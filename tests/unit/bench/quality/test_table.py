"""Tables say what the JSON says, and nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.quality.anchors import ANCHORS, anchors_of
from tests.bench.quality.document import FORMAT, Document, document, to_text
from tests.bench.quality.images import KODAK, CleanImage, ImageSet
from tests.bench.quality.plot import points
from tests.bench.quality.scores import Row, Score
from tests.bench.quality.table import main_table, protocol_table, readme_text, replace_in_readme, whole_text

_SIGMAS = (15, 25)
_REPOSITORY = Path(__file__).resolve().parents[4]
_RECORDED = [
    path
    for path in sorted((_REPOSITORY / "docs" / "results").glob("quality-*.json"))
    if json.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT
]


def score(method: str, file: str, psnr_db: float, **others: Any) -> Score:
    values: dict[str, Any] = {"protocol": "gaussian", "sigma": 25, "is_grey": False, "sigma_found": None}
    return Score(method, file, psnr_db=psnr_db, ssim=0.8, detail=0.5, ms_per_megapixel=100.0, **(values | others))


@pytest.fixture(scope="module")
def tree() -> Document:
    colour, grey = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    images = (CleanImage("one", 0, colour), CleanImage("two", 1, colour), CleanImage("three", 2, grey))
    scores = [
        score("noisy", "one", 20.0),
        *(score("net/1", file, 30.0 + i, sigma=s) for s in _SIGMAS for i, file in enumerate(("one", "two", "three"))),
        # The grey image is the same picture in both: it would water down the difference.
        *(score("net/1", file, 28.0, is_grey=True) for file in ("one", "two")),
        score("net/1", "three", 32.0, is_grey=True),
        score("net/1", "one", 40.0, protocol="clean", sigma=0),
        score("told", "one", 27.5),
        score("grey-net/2", "one", 26.0, is_grey=True, sigma_found=24.0),
    ]
    rows = [
        Row("noisy", "input"),
        Row("net/1", "network", gmac_per_megapixel=26.49, ms_per_megapixel=306.0, raw_ms_per_megapixel=290.2),
        Row("told", "classical", ms_per_megapixel=1234.5),
        Row("grey-net/2", "network", is_grey_only=True, gmac_per_megapixel=5.0, ms_per_megapixel=90.0),
    ]
    return document(ImageSet("mine", images), _SIGMAS, rows, scores, [], ["BM3D skipped: No module named 'bm3d'"])


def _row(table: str, start: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_networks_row_has_means_intervals_and_costs(tree: Document) -> None:
    cells = _row(main_table(tree), "`net/1`")

    assert cells[1].startswith("31.00 (30.")
    assert cells[-3:] == ["306", "290", "26.5"]


def test_methods_that_were_told_say_so(tree: Document) -> None:
    cells = _row(main_table(tree), "told")

    assert "told" in cells[1:]
    assert cells[2] == "27.50"


def test_one_channel_networks_stand_by_the_grey_input(tree: Document) -> None:
    table = main_table(tree)

    assert _row(table, "`grey-net/2`, grey versions")[2] == "26.00"
    assert "| `grey-net/2` |" not in table


def test_grey_is_compared_with_colour_on_colour_images_alone(tree: Document) -> None:
    cells = _row(protocol_table(tree), "`net/1`")

    assert cells[3] == "40.00"
    assert cells[4].startswith("28.00")
    assert cells[5].startswith("-2.50 (-3.00 to -2.00)")


def test_what_was_skipped_is_told(tree: Document) -> None:
    assert "BM3D skipped" in whole_text(tree)


def test_the_file_reads_back_as_the_tree(tree: Document) -> None:
    assert json.loads(to_text(tree)) == tree


def test_anchors_belong_to_their_whole_set_and_say_that_they_were_not_measured() -> None:
    assert anchors_of(KODAK, 24) == ANCHORS
    assert anchors_of(KODAK, 2) == anchors_of("mine", 24) == ()
    images = tuple(CleanImage(str(i), i, np.zeros((16, 16, 3), np.uint8)) for i in range(24))
    whole = document(ImageSet(KODAK, images), _SIGMAS, [], [], [], [])

    assert _row(main_table(whole), "FFDNet-Clip colour*")[1:3] == ["34.67", "32.19"]
    assert "not measured in this run" in readme_text([whole])


def test_the_plot_has_every_method_with_a_cost_and_a_colour_figure(tree: Document) -> None:
    times, works = points(tree, 25)

    assert times == [("net/1", "network", 306.0, 31.0), ("told", "classical", 1234.5, 27.5)]
    assert works == [("net/1", "network", 26.49, 31.0)]


def test_the_readme_is_replaced_between_its_markers_and_again(tree: Document, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nafter\n", encoding="utf-8")

    replace_in_readme(readme, [tree])
    once = readme.read_text(encoding="utf-8")
    replace_in_readme(readme, [tree])

    assert readme.read_text(encoding="utf-8") == once
    assert "\nold\n" not in once
    assert main_table(tree) in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")


def test_a_readme_without_markers_is_left_alone(tree: Document, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n", encoding="utf-8")

    with pytest.raises(SystemExit, match="quality:begin"):
        replace_in_readme(readme, [tree])
    assert readme.read_text(encoding="utf-8") == "before\n"


@pytest.mark.parametrize("path", _RECORDED, ids=lambda path: path.stem)
def test_the_readme_quotes_the_recorded_results(path: Path) -> None:
    readme = (_REPOSITORY / "README.md").read_text(encoding="utf-8")

    assert readme_text([json.loads(path.read_text(encoding="utf-8"))]) in readme
