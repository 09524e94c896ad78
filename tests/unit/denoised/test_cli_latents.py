"""The commands for latent codes against a real server: what they write, what they say, and how they exit."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from denoised.cli import main
from denoised.v1 import denoised_pb2 as pb
from tests.unit.denoised.conftest import Refusal
from tests.unit.denoised.latent_service import LatentService, latent_server


@pytest.fixture
def service() -> LatentService:
    return LatentService()


@pytest.fixture
def target(service: LatentService) -> Iterator[str]:
    with latent_server(service) as target:
        yield target


def run(target: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--server", target])


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "code.npy"
    np.save(path, np.array([1.0, 2.0], np.float32))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    PillowImage.fromarray(np.zeros((2, 2), np.uint8)).save(path)
    return path


def test_a_code_is_decoded_into_the_format_that_the_ending_names(
    target: str, service: LatentService, code: Path, tmp_path: Path
) -> None:
    result = run(target, "decode", code, "-o", tmp_path / "out.jpg", "--model", "digits", "--allow-out-of-distribution")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.jpg").read_bytes() == b"file 7"
    request = service.requests[0]
    assert (list(request.latent.values), request.options.model) == ([1.0, 2.0], "digits")
    assert (request.picture.container, request.allow_out_of_distribution) == (pb.CONTAINER_JPEG, True)
    assert "1.500 s with digits 3" in result.stdout


@pytest.mark.parametrize(("flags", "dtype"), [((), np.float32), (("--half",), np.float16)])
def test_a_code_is_written_as_a_file_of_numpy(
    target: str, picture: Path, tmp_path: Path, flags: tuple[str, ...], dtype: type
) -> None:
    out = tmp_path / "new" / "out.npy"
    result = run(target, "encode", picture, "-o", out, *flags)
    assert result.exit_code == 0, result.output
    assert np.load(out).dtype == dtype
    assert "1.50 from the middle of the codes" in result.stdout


def test_images_are_written_into_a_folder_and_the_seed_is_told(target: str, tmp_path: Path) -> None:
    result = run(target, "generate", "-n", 3, "-o", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {
        f"00{index}.png": b"file %d" % index for index in range(3)
    }
    assert "3 images of seed 42" in result.stdout


def test_a_way_goes_from_an_image_to_a_code(
    target: str, service: LatentService, picture: Path, code: Path, tmp_path: Path
) -> None:
    result = run(target, "interpolate", picture, code, "--steps", 4, "-o", tmp_path / "way")
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "way").iterdir())) == 4
    request = service.requests[0]
    assert request.start.image.encoded.data == picture.read_bytes()
    assert list(request.stop.latent.values) == [1.0, 2.0]
    assert "an arc" in result.stdout


def test_a_refusal_is_one_line_and_exit_code_1(target: str, service: LatentService, code: Path, tmp_path: Path) -> None:
    service.script.append(
        Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the code is 20 away", "LATENT_OUT_OF_DISTRIBUTION", "latent")
    )
    result = run(target, "decode", code, "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "the code is 20 away" in result.stderr
    assert not (tmp_path / "out.png").exists()


def test_a_file_that_is_no_code_is_named(target: str, picture: Path, tmp_path: Path) -> None:
    result = run(target, "decode", picture, "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert "picture.png is no file of NumPy" in result.stderr


@pytest.mark.parametrize(("command", "name"), [("encode", "out.png"), ("decode", "out.gif")])
def test_an_ending_that_fits_no_format_is_a_wrong_command(
    target: str, service: LatentService, picture: Path, tmp_path: Path, command: str, name: str
) -> None:
    result = run(target, command, picture, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert "ends in" in result.stderr
    assert not service.requests
