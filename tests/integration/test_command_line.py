"""The command line against real services: many files, broken ones, killed runs, killed replicas."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result

from denoised import Client
from denoised.cli import main
from tests.integration import harness
from tests.integration.harness import RunningService, launched, ready, running, until
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, png

_SIDE_PX: Final = 16
_KINDS: Final = 8


@pytest.fixture(scope="module")
def settings(light: Oracle, light_store: Path) -> dict[str, object]:
    return {"models_dir": light_store, "default_model": light.contract.name}


@pytest.fixture(scope="module")
def service(settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running(tmp_path_factory.mktemp("light"), **settings) as service:
        yield service


def denoised(service: RunningService, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--server", service.grpc_target])


def files(folder: Path, count: int) -> Path:
    """Tiny images in three folders; there are a few different ones."""
    kinds = [png(noisy(seed, _SIDE_PX, _SIDE_PX, 1)) for seed in range(_KINDS)]
    for number in range(count):
        path = folder / f"{number % 3}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kinds[number % _KINDS])
    return folder


def right_answers(service: RunningService) -> list[bytes]:
    with Client(service.grpc_target) as client:
        return [client.clean(png(noisy(seed, _SIDE_PX, _SIDE_PX, 1))).image for seed in range(_KINDS)]


def outputs(folder: Path) -> dict[int, bytes]:
    return {int(path.stem): path.read_bytes() for path in folder.rglob("*.png")}


def begun(target: str, source: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "denoised.cli", "clean", str(source), "-o", str(output), "--server", target]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


def wait_for_outputs(process: subprocess.Popen[bytes], output: Path, count: int, log: Path) -> None:
    def has_them() -> bool:
        assert process.poll() is None, log.read_text()
        return sum(1 for _ in output.rglob("*.png")) >= count

    until(has_them, f"there were {count} outputs")


@pytest.mark.slow
def test_of_five_thousand_files_the_broken_ones_fail_alone(service: RunningService, tmp_path: Path) -> None:
    source = files(tmp_path / "in", 5000)
    broken = {number: source / f"{number % 3}" / f"{number:05}.png" for number in (0, 7, 999, 2500, 2501, 4000, 4999)}
    whole = broken[0].read_bytes()
    for number, path in broken.items():
        path.write_bytes([b"", b"no image", whole[:-20], whole[:30]][number % 4])

    result = denoised(service, "clean", source, "-o", tmp_path / "out")

    assert result.exit_code == 1, result.stderr
    assert result.stdout == "in 5000 = done 4993 + skipped 0 + failed 7\n"
    complaints = dict(re.findall(r"^(\S+\.png): (.+)$", result.stderr, re.MULTILINE))
    assert set(complaints) == {str(path) for path in broken.values()}
    assert all(len(why) > 10 for why in complaints.values())
    expected = right_answers(service)
    assert outputs(tmp_path / "out") == {
        number: expected[number % _KINDS] for number in range(5000) if number not in broken
    }


@pytest.mark.slow
def test_a_run_that_was_killed_is_finished_by_the_next_and_truncates_nothing(
    service: RunningService, tmp_path: Path
) -> None:
    source, output, log = files(tmp_path / "in", 3000), tmp_path / "out", tmp_path / "log"
    process = begun(service.grpc_target, source, output, log)
    wait_for_outputs(process, output, 1000, log)
    process.send_signal(signal.SIGKILL)
    process.wait()
    expected = right_answers(service)
    before = outputs(output)
    assert 1000 <= len(before) < 3000
    assert before == {number: expected[number % _KINDS] for number in before}

    result = denoised(service, "clean", source, "-o", output, "--skip-existing")

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"in 3000 = done {3000 - len(before)} + skipped {len(before)} + failed 0\n"
    assert outputs(output) == {number: expected[number % _KINDS] for number in range(3000)}
    assert not list(output.rglob("*.part")), "what the killed run was writing"


@pytest.mark.slow
def test_one_replica_of_two_that_is_killed_loses_nothing(
    settings: dict[str, object], service: RunningService, tmp_path: Path
) -> None:
    source, output, log = files(tmp_path / "in", 4000), tmp_path / "out", tmp_path / "log"
    (tmp_path / "replica").mkdir()
    expected = right_answers(service)
    served = service.metric("denoised_requests_total", method="DenoiseStream.item", code="OK")
    with launched(tmp_path / "replica", **settings) as replica:
        other = ready(replica, tmp_path / "replica")
        process = begun(f"ipv4:{service.grpc_target},{other.grpc_target}", source, output, log)
        wait_for_outputs(process, output, 1000, log)
        assert other.metric("denoised_requests_total", method="DenoiseStream.item", code="OK") > 0
        replica.kill()
        replica.wait()
        assert process.wait(harness.LIMIT_S) == 0, log.read_text()

    assert log.read_text().splitlines()[-1] == "in 4000 = done 4000 + skipped 0 + failed 0"
    assert outputs(output) == {number: expected[number % _KINDS] for number in range(4000)}
    assert service.metric("denoised_requests_total", method="DenoiseStream.item", code="OK") > served


def test_a_doctor_finds_a_healthy_service_so(service: RunningService) -> None:
    result = denoised(service, "doctor")
    assert result.exit_code == 0, result.stdout
    steps = [line.split()[:2] for line in result.stdout.splitlines()]
    assert [step for _, step in steps if step != "proxy"] == [
        *("name", "port", "speech", "health", "release", "limits", "image")
    ]
    assert {state for state, step in steps if step != "proxy"} == {"ok"}


def test_a_page_of_a_run_shows_the_noisiest_first_and_what_failed(service: RunningService, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    calm = noisy(1, 64, 64, 1) // 8 + 100
    for name, data in (("calm.png", png(calm)), ("noisy.png", png(noisy(2, 64, 64, 1))), ("broken.png", b"no image")):
        (source / name).write_bytes(data)
    page = tmp_path / "page.html"
    result = denoised(service, "clean", source, "-o", tmp_path / "out", "--report", page)
    assert (result.exit_code, result.stdout) == (1, "in 3 = done 2 + skipped 0 + failed 1\n")
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r'<article class="card"', text)) == 2
    assert "1 image failed" in text
    assert str(source / "broken.png") in text
