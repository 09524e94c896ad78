"""The wheel: the public package alone, typed, with its proto file, and with the client's needs only."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling", reason="hatchling is not installed; make test-fast installs it")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", _BUILD, str(directory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(directory / done.stdout.splitlines()[-1])


def _metadata(wheel: zipfile.ZipFile, file: str) -> str:
    (name,) = (name for name in wheel.namelist() if name.endswith(f".dist-info/{file}"))
    return wheel.read(name).decode()


def test_it_holds_the_public_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"denoised"}


def test_it_holds_every_file_of_the_package(wheel: zipfile.ZipFile, repository_files: list[Path]) -> None:
    package = Path("proto/denoised")
    expected = {str(path.relative_to("proto")) for path in repository_files if path.is_relative_to(package)}

    assert {name for name in wheel.namelist() if name.startswith("denoised/")} == expected


@pytest.mark.parametrize("name", ["py.typed", "v1/denoised.proto", "v1/denoised_pb2.pyi", "v1/denoised_pb2_grpc.py"])
def test_it_is_typed_and_brings_the_api(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"denoised/{name}" in wheel.namelist()


def test_it_needs_what_a_client_needs(wheel: zipfile.ZipFile) -> None:
    requirements = map(Requirement, Parser().parsestr(_metadata(wheel, "METADATA")).get_all("Requires-Dist", []))
    unconditional = {requirement.name for requirement in requirements if "extra" not in str(requirement.marker)}

    assert unconditional == {"click", "googleapis-common-protos", "grpcio", "numpy", "protobuf"}


def test_it_brings_at_most_eight_packages(root: Path) -> None:
    """The lock of the client is what an installation brings, besides the package itself."""
    lines = (root / "requirements" / "client.txt").read_text(encoding="utf-8").splitlines()

    assert len([line for line in lines if "==" in line and line[0].isalpha()]) <= 7


def test_it_installs_the_command(wheel: zipfile.ZipFile) -> None:
    assert "denoised = denoised.cli:main" in _metadata(wheel, "entry_points.txt")


def test_it_works_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import denoised.client; print(denoised.__file__)"

    # -I: neither the working directory nor PYTHONPATH may help.
    command = [sys.executable, "-I", "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "denoised" / "__init__.py"
