"""Measuring on arrays: networks whose answers are known, folders that a test wrote, noise that is keyed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from denoised.contract import SampleLevels
from denoised.noise import Image, NoiseSpec, PoissonGaussian, benchmark_noisy
from denoised.quality import PSNR_CEILING_DB
from training.errors import ConfigError, DataError

pytest.importorskip("torch")
tifffile = pytest.importorskip("tifffile")

import torch  # noqa: E402 -- after importorskip
from torch import Tensor  # noqa: E402

from training.evaluation.conditions import (  # noqa: E402 -- after importorskip
    GaussianNoise,
    OwnNoise,
    RecordedNoise,
    default_conditions,
)
from training.evaluation.estimates import NoReference  # noqa: E402
from training.evaluation.measure import evaluate  # noqa: E402
from training.evaluation.no_reference import estimate, repeat_psnr_db  # noqa: E402
from training.evaluation.scores import NETWORK, NOISY, psnr_of  # noqa: E402
from training.evaluation.subjects import Folder  # noqa: E402
from training.networks.base import Answer, Network  # noqa: E402

pytestmark = pytest.mark.training

U8 = SampleLevels()


class Scaled(Network):
    """Answers with the mean of its input and ``share`` of what differs from it; claims a noise level of 10."""

    channels = 1
    size_multiple_px = 8

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, noisy: Tensor, epsilon: Tensor | None = None) -> Answer:
        assert noisy.shape[2] % 8 == noisy.shape[3] % 8 == 0
        mean = noisy.mean(dim=(2, 3), keepdim=True)
        return Answer(mean + self.share * (noisy - mean), torch.full((1, 1, 1, 1), 10 / 255))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    for number, label in enumerate(("a", "a", "b")):
        (root / label).mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).integers(60, 190, (20 + number, 33), dtype=np.uint8)
        PillowImage.fromarray(samples).save(root / label / f"{number}.png")
    return root


def images(
    folder: Path, *, levels: SampleLevels = U8, side_px: int | None = None, noisy_folder: Path | None = None
) -> Folder:
    return Folder(folder, channels=1, levels=levels, side_px=side_px, noisy_folder=noisy_folder)


def test_the_identity_scores_what_the_noise_is(folder: Path) -> None:
    measured = evaluate(Scaled(1.0), images(folder), GaussianNoise((0.0, 25.0)), baselines={})
    evaluation = measured.evaluation
    assert evaluation.image_set == "val"
    assert evaluation.files() == ["a/0.png", "a/1.png", "b/2.png"]
    for level in (0.0, 25.0):
        own, noisy = (evaluation.at(level, method) for method in (NETWORK, NOISY))
        assert [score.psnr_db for score in own] == [score.psnr_db for score in noisy]
        assert {score.sigma_found for score in own} == {10.0}
    assert {score.psnr_db for score in evaluation.at(0.0)} == {PSNR_CEILING_DB}
    assert evaluation.mean(25.0, psnr_of) == pytest.approx(20.2, abs=0.4)


def test_the_benchmark_is_the_projects_own_noise(folder: Path) -> None:
    subject = list(images(folder))[1]
    clean_u8 = np.rint(subject.clean * 255).astype(np.uint8)
    expected = benchmark_noisy(clean_u8, sigma=15.0, index=1)
    found = GaussianNoise((15.0,)).noisy(subject, 15.0)
    np.testing.assert_array_equal(np.rint(found * 255).astype(np.uint8), expected)


def test_baselines_see_the_same_pixels_and_the_level(folder: Path) -> None:
    seen = []

    def flat(noisy: Image, sigma: float | None) -> Image:
        seen.append((noisy.shape, sigma))
        return np.full_like(noisy, 0.5)

    evaluation = evaluate(Scaled(1.0), images(folder), GaussianNoise((25.0,)), baselines={"flat": flat}).evaluation
    assert seen == [((20, 33, 1), 25.0), ((21, 33, 1), 25.0), ((22, 33, 1), 25.0)]
    assert evaluation.methods() == [NOISY, "flat", NETWORK]
    assert evaluation.at(25.0, "flat")[0].detail == pytest.approx(0.0, abs=1e-4)


def test_own_noise_is_the_same_field_at_every_severity_and_for_every_network(folder: Path) -> None:
    spec = NoiseSpec(stages=(PoissonGaussian(0.001, 0.01, 1.0, 5.0),))
    subject = next(iter(images(folder)))
    weak, strong = (OwnNoise(spec).noisy(subject, severity) for severity in (0.0, 1.0))
    np.testing.assert_array_equal(weak, OwnNoise(spec).noisy(subject, 0.0))
    assert np.abs(strong - subject.clean).mean() > 2 * np.abs(weak - subject.clean).mean()


def test_pairs_are_measured_as_recorded(folder: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    for path in sorted(folder.rglob("*.png")):
        target = noisy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(np.asarray(PillowImage.open(path)) + np.uint8(5)).save(target)
    evaluation = evaluate(Scaled(1.0), images(folder, noisy_folder=noisy), RecordedNoise(), baselines={}).evaluation
    assert evaluation.mean(0.0, psnr_of) == pytest.approx(20 * np.log10(51), abs=1e-3)
    (noisy / "a" / "0.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 .*a/0.png"):
        images(folder, noisy_folder=noisy)


def test_twelve_bit_images_are_read_by_the_levels_of_the_pack(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (2, 16, 16), dtype=np.uint16)
    (tmp_path / "stack").mkdir()
    tifffile.imwrite(tmp_path / "stack" / "frames.tif", samples, photometric="minisblack")
    stack = images(tmp_path / "stack", levels=SampleLevels("u16", 0.0, 4095.0))
    assert len(stack) == 2
    first, second = stack
    assert first.file != second.file
    np.testing.assert_allclose(first.clean[:, :, 0], samples[0] / 4095, atol=1e-6)
    assert first.grid_steps == 4095
    delivered = first.delivered(first.clean + np.float32(0.0001))
    np.testing.assert_allclose(delivered * 4095, np.rint(delivered * 4095), atol=1e-3)


def test_a_network_of_one_size_gets_the_middle_and_refuses_less(folder: Path) -> None:
    subject = next(iter(images(folder, side_px=16)))
    whole = next(iter(images(folder)))
    np.testing.assert_array_equal(subject.clean, whole.clean[2:18, 8:24])
    with pytest.raises(DataError, match="32 x 32"):
        list(images(folder, side_px=32))


def test_unreadable_files_are_left_out_and_named(folder: Path) -> None:
    whole = {subject.file: subject for subject in images(folder)}
    (folder / "a" / "z-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    path = folder / "a" / "1.png"
    path.write_bytes(path.read_bytes()[:-60])
    found = images(folder)
    assert [subject.file for subject in found] == ["a/0.png", "b/2.png"]
    assert [text.split(":")[0] for text in found.left_out] == ["a/1.png", "a/z-broken.png"]
    list(found)
    assert len(found.left_out) == 2
    assert next(iter(found)).index == whole["a/0.png"].index == 0


def test_a_set_of_which_nothing_can_be_read_is_refused(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"none of the 3 images.*0\.png"):
        list(images(folder))
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 3 images.*0\.png"):
        images(folder)


def test_an_evaluation_says_what_was_left_out_and_still_shows_one_image(folder: Path) -> None:
    path = folder / "a" / "1.png"
    path.write_bytes(path.read_bytes()[:-60])
    measured = evaluate(Scaled(1.0), images(folder), GaussianNoise((15.0, 25.0)), baselines={})
    assert [sample.file for sample in measured.samples.shown] == ["a/0.png", "a/0.png"]
    (note,) = measured.evaluation.notes
    assert "1 of 3 images" in note
    assert "a/1.png" in note
    found, _ = estimate(Scaled(0.5), images(folder))
    assert found.notes == measured.evaluation.notes


def test_the_digest_covers_the_pixels_of_a_set(folder: Path) -> None:
    def digest() -> str:
        return evaluate(Scaled(1.0), images(folder), GaussianNoise((25.0,)), baselines={}).evaluation.samples_digest

    before = digest()
    assert before == digest()
    path = folder / "b" / "2.png"
    samples = np.array(PillowImage.open(path))
    samples[3, 4] ^= 1
    PillowImage.fromarray(samples).save(path)
    assert digest() != before


def test_own_noise_is_described_by_its_ranges_and_digest() -> None:
    weak, strong = (
        OwnNoise(NoiseSpec(stages=(PoissonGaussian(0.001, gain_max, 1.0, 5.0),))) for gain_max in (0.01, 0.6)
    )
    assert weak.describe() != strong.describe()
    assert "gain 0.001 to 0.01" in weak.describe()
    assert weak.spec.digest()[:16] in weak.describe()
    assert replace(weak, spec=replace(weak.spec, grey_share=0.5)).describe() == weak.describe()
    assert OwnNoise(replace(weak.spec, clip=False, quantise="none")).describe() != weak.describe()


def test_an_answer_that_is_no_number_has_no_psnr(folder: Path) -> None:
    evaluation = evaluate(Scaled(float("nan")), images(folder), GaussianNoise((25.0,)), baselines={}).evaluation
    assert all(score.psnr_db != score.psnr_db for score in evaluation.at(25.0))


def test_the_worst_images_are_kept_from_the_worst_on(tmp_path: Path) -> None:
    for number in range(8):
        samples = np.random.default_rng(number).normal(128, 5 + 5 * number, (24, 24)).clip(0, 255)
        PillowImage.fromarray(samples.astype(np.uint8)).save(tmp_path / f"{number}.png")
    measured = evaluate(Scaled(0.0), images(tmp_path), GaussianNoise((15.0, 25.0, 50.0)), baselines={})
    worst = measured.samples.worst()
    assert [sample.file for sample in worst] == [score.file for score in measured.evaluation.worst(25.0, 5)]
    assert [sample.psnr_db for sample in worst] == sorted(sample.psnr_db for sample in worst)
    assert [sample.level for sample in measured.samples.shown] == [15.0, 25.0, 50.0]


@pytest.mark.parametrize(
    ("spec", "has_code", "levels"),
    [
        (NoiseSpec.gaussian(0, 55), False, (5.0, 15.0, 25.0, 35.0, 50.0)),
        (NoiseSpec.gaussian(25, 25), False, (25.0,)),
        (NoiseSpec.gaussian(0, 120), True, (0.0, 30.0, 60.0, 90.0, 120.0)),
        (NoiseSpec(), True, (0.0,)),
    ],
    ids=["the benchmark", "one level", "digits", "clean"],
)
def test_levels_follow_from_what_a_run_was_made_for(
    spec: NoiseSpec, *, has_code: bool, levels: tuple[float, ...]
) -> None:
    conditions = default_conditions(spec, has_code=has_code)
    assert (conditions.protocol, conditions.levels) == ("gaussian", levels)


def test_noise_that_is_not_plain_gaussian_is_measured_as_it_is() -> None:
    conditions = default_conditions(NoiseSpec(stages=(PoissonGaussian(0.001, 0.01, 1.0, 5.0),)), has_code=False)
    assert conditions.protocol == "own_noise"
    assert conditions.levels[0] == 0.0
    assert conditions.levels[-1] == 1.0


@pytest.mark.parametrize("levels", [(), (-1.0,), (256.0,), (float("nan"),)])
def test_levels_out_of_range_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="--sigmas"):
        GaussianNoise(levels)


# Without clean truth


def test_repeats_measure_the_error_against_what_both_frames_show() -> None:
    rng = np.random.default_rng(3)
    clean = rng.random((256, 256, 1), dtype=np.float32)
    first, second = (clean + rng.normal(0, 0.1, clean.shape).astype(np.float32) for _ in range(2))
    answer = clean + np.float32(0.03)
    noisy_db, answer_db = repeat_psnr_db(first, second, answer)
    assert noisy_db == pytest.approx(20.0, abs=0.1)
    assert answer_db == pytest.approx(-20 * np.log10(0.03), abs=1.0)
    # The second frame itself is no honest answer, and the estimate says that it can't be.
    assert repeat_psnr_db(first, second, second)[1] is None


def test_estimates_name_themselves_as_such(folder: Path) -> None:
    found, rows = estimate(Scaled(0.5), images(folder, noisy_folder=folder), sigma=20.0)
    assert [e.file for e in found.estimates] == ["a/0.png", "a/1.png", "b/2.png"]
    assert {e.sigma for e in found.estimates} == {20.0}
    assert len(rows) == 3
    assert "Estimates without clean truth" in found.definitions
    assert "(estimate)" in found.table()
    assert NoReference.from_json(found.to_json()) == found


def test_the_noise_level_is_the_networks_own_unless_it_is_given(folder: Path) -> None:
    found, _ = estimate(Scaled(0.5), images(folder))
    assert {e.sigma for e in found.estimates} == {10.0}
    assert all(e.repeat_psnr_db is None for e in found.estimates)
