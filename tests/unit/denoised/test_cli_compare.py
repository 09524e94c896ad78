"""``denoised compare``: numbers that are known beforehand, and what it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from denoised.cli import main
from tests.integration.pictures import png


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def saved(path: Path, samples: np.ndarray[Any, Any]) -> Path:
    Image.fromarray(samples).save(path)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An image that is 2 levels above its reference in half of the values."""
    reference = np.full((20, 30, 3), 100, np.uint8)
    image = reference.copy()
    image[:10] += 2
    return saved(tmp_path / "image.png", image), saved(tmp_path / "reference.png", reference)


def test_it_says_how_far_two_images_are_apart(pair: tuple[Path, Path]) -> None:
    result = run(*pair, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["psnr_db"] == pytest.approx(10 * np.log10(255**2 / 2))
    assert (found["largest_difference"], found["differing_share"], found["white_level"]) == (2, 0.5, 255)
    assert "PSNR 45.12 dB, SSIM 0." in run(*pair).stdout


def test_equal_images_have_no_finite_psnr(pair: tuple[Path, Path]) -> None:
    assert json.loads(run(pair[0], pair[0], "--json").stdout)["psnr_db"] is None
    assert "PSNR inf dB, SSIM 1.0000" in run(pair[0], pair[0]).stdout


def test_the_difference_is_eight_times_as_strong_around_grey(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(*pair, "--difference", tmp_path / "difference.png").exit_code == 0
    picture = np.asarray(Image.open(tmp_path / "difference.png"))
    assert {int(value) for value in np.unique(picture[:10])} == {128 + 8 * 2}
    assert {int(value) for value in np.unique(picture[10:])} == {128}


def test_a_page_is_written_when_asked(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(*pair, "--report", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<article class="card"') == 1
    assert "45.12" in page


@pytest.mark.parametrize(
    ("limits", "code"),
    [(["--min-psnr", 45], 0), (["--min-psnr", 46], 1), (["--min-ssim", 0.5], 0), (["--min-ssim", 1], 1)],
)
def test_limits_decide_the_exit(pair: tuple[Path, Path], limits: list[object], code: int) -> None:
    assert run(*pair, *limits).exit_code == code


def test_sixteen_bits_are_compared_in_sixteen_bits(tmp_path: Path) -> None:
    samples = np.arange(400, dtype=np.uint16).reshape(20, 20) * 100
    other = samples + np.uint16(1)
    result = run(saved(tmp_path / "a.png", samples), saved(tmp_path / "b.png", other), "--json")
    assert json.loads(result.stdout)["psnr_db"] == pytest.approx(20 * np.log10(65535))
    np.save(tmp_path / "c.npy", samples)
    assert json.loads(run(tmp_path / "c.npy", tmp_path / "b.png", "--json").stdout)["largest_difference"] == 1


def test_what_can_not_be_compared_says_why(pair: tuple[Path, Path], tmp_path: Path) -> None:
    small = saved(tmp_path / "small.png", np.zeros((5, 5), np.uint8))
    result = run(pair[0], small)
    assert (result.exit_code, "5 x 5 with 1 channels of uint8" in result.stderr) == (1, True)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    assert run(broken, pair[0]).exit_code == 1
    deep = tmp_path / "deep.png"
    deep.write_bytes(png(np.zeros((9, 9, 3), np.uint16)))
    result = run(deep, deep)
    assert result.exit_code == 1
    assert "save it as .npy" in result.stderr
    assert run(pair[0], tmp_path / "nowhere.png").exit_code == 2


def test_too_small_for_ssim_is_compared_without(tmp_path: Path) -> None:
    small = saved(tmp_path / "small.png", np.zeros((5, 5), np.uint8))
    result = run(small, small)
    assert result.exit_code == 0
    assert "SSIM" not in result.stdout
    assert run(small, small, "--min-ssim", 0.1).exit_code == 1
