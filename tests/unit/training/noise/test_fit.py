"""fit-noise finds the gain and the read noise that photographs were given, and says so in a form that trains."""

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from skimage import data

from denoised.noise import Demosaic, Gaussian, NoiseSpec, PoissonGaussian, keyed_rng
from training import __main__
from training.data.pack import Pack
from training.data.prepare import prepare
from training.errors import DataError
from training.noise.fit import NoiseFit, fit_noise
from training.noise.report import draw_fit, fit_table, noise_section

BLACK, WHITE = 64.0, 4095.0
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "camera")


def photograph(name: str) -> NDArray[np.float64]:
    """(h, w) in 0.02..0.92, of half the size, which makes its own grain small."""
    samples = np.atleast_3d(getattr(data, name)())[:, :, :1] / 255
    height, width = (side // 2 * 2 for side in samples.shape[:2])
    halved: NDArray[np.float64] = samples[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return 0.02 + 0.9 * halved


def sensor_frame(scene: NDArray[np.float64], gain: float, read_sigma: float, seed: int) -> NDArray[np.uint16]:
    """12-bit samples of a sensor that looks at the scene, drawn without the code under test."""
    rng = np.random.default_rng(seed)
    signal = rng.poisson(scene / gain) * gain + rng.normal(0, read_sigma / 255, scene.shape)
    return np.clip(np.rint(signal * (WHITE - BLACK) + BLACK), 0, 4095).astype(np.uint16)


def packed(
    folder: Path, frames: Mapping[str, NDArray[Any]], *, channels: int = 1, black: float = BLACK, white: float = WHITE
) -> Pack:
    source = folder / "frames"
    source.mkdir()
    for name, frame in frames.items():
        photometric = "rgb" if frame.shape[-1] == 3 else "minisblack"
        tifffile.imwrite(source / f"{name}.tif", frame, photometric=photometric)
    prepare(source, folder / "pack", channels=channels, noisy_only=True, black=black, white=white)
    return Pack(folder / "pack")


@pytest.mark.parametrize(("gain", "read_sigma"), [(0.0008, 1.5), (0.003, 4.0), (0.005, 8.0)])
def test_gain_and_read_noise_are_found_in_single_photographs(tmp_path: Path, gain: float, read_sigma: float) -> None:
    frames = {name: sensor_frame(photograph(name), gain, read_sigma, seed) for seed, name in enumerate(PHOTOGRAPHS)}
    seen: list[str] = []
    fit = fit_noise(packed(tmp_path, frames), on_image=lambda image: seen.append(image.file))
    assert fit.gain == pytest.approx(gain, rel=0.15)
    assert fit.read_sigma == pytest.approx(read_sigma, rel=0.2)
    assert abs(fit.gain - gain) < 4 * fit.gain_error
    assert abs(fit.read_sigma - read_sigma) < 4 * fit.read_sigma_error
    assert not fit.is_correlated
    assert (fit.method, fit.image_count, len(seen)) == ("single images", 5, 5)


@pytest.mark.parametrize("as_stack", [True, False], ids=["stack", "files"])
def test_repeats_of_a_textured_scene_give_both_more_sharply(tmp_path: Path, *, as_stack: bool) -> None:
    gain, read_sigma = 0.003, 4.0
    scene = photograph("coffee")
    # A scene that is all texture, under a lamp that flickers by two percent.
    scene *= np.random.default_rng(9).uniform(0.7, 1.0, scene.shape)
    repeats = np.stack(
        [sensor_frame(scene * factor, gain, read_sigma, seed) for seed, factor in enumerate((1, 0.98, 1.01, 0.99))]
    )
    frames = {"stack": repeats} if as_stack else {f"{index}": frame for index, frame in enumerate(repeats)}
    pack = packed(tmp_path, frames)
    fit = fit_noise(pack, repeats=True)
    assert fit.gain == pytest.approx(gain, rel=0.03)
    assert fit.read_sigma == pytest.approx(read_sigma, rel=0.06)
    assert (fit.method, fit.image_count) == ("repeats", 4)


def test_noise_that_does_not_depend_on_the_signal_is_gaussian(tmp_path: Path) -> None:
    frames = {}
    for seed, name in enumerate(PHOTOGRAPHS):
        noise = np.random.default_rng(seed).normal(0, 12 / 255, (photograph(name).shape))
        frames[name] = np.rint((0.2 + 0.6 * photograph(name) + noise).clip(0, 1) * 255).astype(np.uint8)
    fit = fit_noise(packed(tmp_path, frames, black=0.0, white=255.0))
    (stage,) = fit.spec().stages
    assert isinstance(stage, Gaussian)
    assert stage.sigma_max == pytest.approx(12, rel=0.05)
    assert fit.spec().quantise == "u8"


@pytest.mark.parametrize("repeats", [False, True])
def test_a_black_below_the_cameras_offset_leaves_the_gain_right_and_is_said(tmp_path: Path, *, repeats: bool) -> None:
    gain, read_sigma, offset = 0.46, 0.7, 100
    scene = np.tile(np.linspace(0, 600, 512), (512, 1))
    scene[:100] = 0
    frames = {}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        samples = offset + rng.poisson(scene / gain) * gain + rng.normal(0, read_sigma, scene.shape)
        frames[f"{seed}"] = np.rint(samples).astype(np.uint16)
    # The lowest sample, as a fit of black finds it.
    fit = fit_noise(packed(tmp_path, frames, black=88.0, white=1023.0), repeats=repeats)
    assert fit.gain * (1023 - 88) == pytest.approx(gain, rel=0.05)
    assert fit.read_sigma == 0
    assert fit.dark_level == pytest.approx(offset, abs=4)
    table = fit_table(fit)
    assert "black is 88, but the noise ends at" in table
    assert "--black" in table


def test_a_right_black_is_not_objected_to(fit: NoiseFit) -> None:
    assert fit.dark_level is None
    assert "--black" not in fit_table(fit)


def test_areas_without_noise_are_no_part_of_it(tmp_path: Path) -> None:
    frames = {}
    for seed in range(4):
        frame = np.full((256, 256), 40, np.uint8)
        noise = np.random.default_rng(seed).normal(0, 5, (256, 128))
        frame[:, 128:] = np.rint(120 + 40 * np.linspace(-1, 1, 128) + noise)
        frames[f"{seed}"] = frame
    fit = fit_noise(packed(tmp_path, frames, black=0.0, white=255.0))
    assert fit.sigma_at(0.5) == pytest.approx(5, rel=0.05)
    assert not fit.has_gain


def test_noise_at_one_brightness_is_right_there_though_it_tells_no_gain(tmp_path: Path) -> None:
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(120, 5, (256, 256))
        (tmp_path / f"{seed}").mkdir()
        pack = packed(tmp_path / f"{seed}", {"a": np.rint(noise).astype(np.uint8)}, black=0.0, white=255.0)
        fit = fit_noise(pack)
        assert fit.sigma_at(120 / 255) == pytest.approx(5, rel=0.05)
        assert fit.dark_level is None


@pytest.mark.parametrize("repeats", [False, True])
def test_images_without_noise_are_refused_with_what_to_do(tmp_path: Path, *, repeats: bool) -> None:
    drawing = np.random.default_rng(0).integers(30, 220, (32, 32), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    other = drawing.copy()
    # Copies would count once; a clipped sample takes its block out.
    other[0, 0] = 255
    pack = packed(tmp_path, {"a": drawing, "b": other}, black=0.0, white=255.0)
    with pytest.raises(DataError, match=r"no noise found in (1023|2047) blocks.*raw frames"):
        fit_noise(pack, repeats=repeats)


@pytest.mark.parametrize("seed", range(3))
def test_dark_frames_tell_the_read_noise(tmp_path: Path, seed: int) -> None:
    samples = 200 + np.random.default_rng(seed).normal(0, 8, (4, 256, 256))
    fit = fit_noise(packed(tmp_path, {"dark": np.rint(samples).astype(np.uint16)}, black=200.0), repeats=True)
    assert fit.sigma_at(0) == pytest.approx(8 / (WHITE - 200) * 255, rel=0.05)


@pytest.mark.parametrize(("white", "sigma"), [(255.0, (0.6**2 + 1 / 12) ** 0.5), (65535.0, 0.6)])
def test_rounding_is_part_of_the_noise_unless_the_spec_rounds_alike(tmp_path: Path, white: float, sigma: float) -> None:
    # 8-bit samples in a 16-bit file, or a range that the file's type fills.
    noise = np.random.default_rng(0).normal(0, 0.6, (4, 512, 512))
    frames = {f"{index}": np.rint(60 + each).astype(np.uint16) for index, each in enumerate(noise)}
    fit = fit_noise(packed(tmp_path, frames, black=0.0, white=white))
    assert fit.spec().quantise == "u16"
    assert fit.sigma_at(0.0) * white / 255 == pytest.approx(sigma, rel=0.02)


def test_colour_is_read_from_all_channels_and_demosaiced_noise_is_called_correlated(tmp_path: Path) -> None:
    spec = NoiseSpec((Gaussian(8.0, 8.0), Demosaic()), quantise="u8")
    frames = {}
    for index, name in enumerate(PHOTOGRAPHS):
        clean = np.repeat(photograph(name)[:, :, None], 3, axis=2).astype(np.float32)
        frames[name] = np.rint(spec.apply(clean, keyed_rng(index)).image * 255).astype(np.uint8)
    fit = fit_noise(packed(tmp_path, frames, channels=3, black=0.0, white=255.0))
    assert fit.is_correlated
    assert fit.correlation > 0.2
    assert fit.sigma_at(0.5) == pytest.approx(8.0, rel=0.25)


def test_grey_images_stored_as_colour_count_once(tmp_path: Path) -> None:
    frame = sensor_frame(photograph("rocket"), 0.003, 4.0, 0)
    for name in ("grey", "colour"):
        (tmp_path / name).mkdir()
    one = fit_noise(packed(tmp_path / "grey", {"a": frame}))
    other = fit_noise(packed(tmp_path / "colour", {"a": np.repeat(frame[..., None], 3, axis=2)}, channels=3))
    assert (one.gain, one.bins) == (other.gain, other.bins)


def test_too_few_flat_blocks_are_refused_with_what_to_do(tmp_path: Path) -> None:
    frames = {"a": np.random.default_rng(0).integers(100, 4000, (64, 64)).astype(np.uint16)}
    with pytest.raises(DataError, match=r"fewer than 100 of 64 blocks.*repeats"):
        fit_noise(packed(tmp_path, frames))


def test_one_image_is_no_repeat(tmp_path: Path) -> None:
    pack = packed(tmp_path, {"a": sensor_frame(photograph("rocket"), 0.003, 4.0, 0)})
    with pytest.raises(DataError, match="two or more"):
        fit_noise(pack, repeats=True)


def test_repeats_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    frames = {name: sensor_frame(photograph(name), 0.003, 4.0, 0) for name in ("rocket", "camera")}
    with pytest.raises(DataError, match=r"camera.tif and rocket.tif differ in size"):
        fit_noise(packed(tmp_path, frames), repeats=True)


# What is done with it


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> NoiseFit:
    frames = {"rocket": sensor_frame(photograph("rocket"), 0.003, 4.0, 0)}
    return fit_noise(packed(tmp_path_factory.mktemp("fit"), frames))


def test_the_section_of_a_config_reads_back_as_the_spec(fit: NoiseFit) -> None:
    for spec in (
        fit.spec(),
        NoiseSpec.gaussian(5.0, 50.0, clip=False, quantise="none", grey_share=0.2),
        NoiseSpec((PoissonGaussian(0.001, 0.01, gain_draw="log_uniform", share=0.5), Demosaic()), shuffle_share=0.5),
        NoiseSpec(),
    ):
        tree = tomllib.loads(noise_section(spec))
        assert NoiseSpec.from_json(json.dumps(tree["noise"])) == spec


def test_the_spec_is_the_fit_rounded_to_what_can_be_known(fit: NoiseFit) -> None:
    (stage,) = fit.spec().stages
    assert isinstance(stage, PoissonGaussian)
    assert stage.gain_min == stage.gain_max == float(f"{fit.gain:.3g}")
    assert stage.read_sigma_min == stage.read_sigma_max == float(f"{fit.read_sigma:.3g}")
    assert fit.spec().quantise == "u16"


def test_the_table_has_the_numbers_in_the_units_of_the_samples(fit: NoiseFit) -> None:
    table = fit_table(fit)
    assert f"{fit.gain * (WHITE - BLACK):.3g} sample values for each electron" in table
    assert f"{1 / fit.gain:,.0f} electrons make white" in table
    assert f"{fit.read_sigma * (WHITE - BLACK) / 255:.3g} sample values" in table
    assert f"{fit.sigma_at(0.5):.2f}" in table


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_picture_is_drawn_in_both_formats(fit: NoiseFit, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"noise.{suffix}"
    draw_fit(fit, path)
    assert path.read_bytes().startswith(start)


# The verb


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["training", "fit-noise", *(str(each) for each in arguments)])
    return __main__.main()


def test_the_verb_answers_alike_for_a_folder_and_its_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(tmp_path, {"rocket": sensor_frame(photograph("rocket"), 0.003, 4.0, 0)})
    from_folder, from_pack, plot = (tmp_path / name for name in ("folder.json", "pack.json", "noise.svg"))
    levels = ("--black", BLACK, "--white", WHITE)
    assert run(monkeypatch, tmp_path / "frames", "--channels", 1, *levels, "--json", from_folder, "--plot", plot) == 0
    text = capsys.readouterr().out
    assert run(monkeypatch, tmp_path / "pack", "--json", from_pack) == 0
    assert from_folder.read_bytes() == from_pack.read_bytes()
    assert plot.stat().st_size > 1000
    tree = json.loads(from_pack.read_text())
    section = text[text.index("[noise]") : text.index("written to")]
    assert tomllib.loads(section)["noise"]["stages"][0]["gain_max"] == tree["spec"]["stages"][0]["gain_max"]
    assert tree["gain"] == pytest.approx(0.003, rel=0.2)


def test_the_verb_refuses_what_it_can_not_draw_and_levels_beside_a_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed(tmp_path, {"rocket": sensor_frame(photograph("rocket"), 0.003, 4.0, 0)})
    assert run(monkeypatch, tmp_path / "pack", "--plot", "noise.pdf") == 1
    assert ".png, .svg" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path / "pack", "--black", 64) == 1
    assert "own black and white level" in capsys.readouterr().err
