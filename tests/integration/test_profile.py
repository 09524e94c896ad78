"""``python -m service profile`` and a service that starts from what it wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.demo.process import log_of
from tests.integration import harness
from tests.integration.harness import LIMIT_S, connected
from tests.integration.oracle import Oracle
from tests.integration.pictures import noisy, raw_request

_REPOSITORY = Path(__file__).parents[2]
_SIDE_PX = 64


@pytest.fixture(scope="module")
def settings(light: Oracle, light_store: Path) -> dict[str, object]:
    """Of the run that measures and of the services that start from it."""
    return {"models_dir": light_store, "default_model": light.contract.name, "lane_count": 1}


@pytest.fixture(scope="module")
def measured(settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of the command wrote."""
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    done = _profile(path, **settings)
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout
    profile: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return profile


def _profile(path: Path, **settings: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto"))),
        **{f"DENOISED_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "service", "profile", "--repeats", "1", "--to", str(path)]
    return subprocess.run(command, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def _written(profile: dict[str, Any], folder: Path) -> Path:
    path = folder / "profile.json"
    path.write_text(json.dumps(profile), encoding="utf-8")
    return path


def test_every_shape_of_the_network_is_measured(measured: dict[str, Any], light: Oracle) -> None:
    (model,) = measured["models"]
    edges_px = light.contract.unit_edges_px

    assert (model["name"], model["digest"]) == (light.contract.name, light.digest)
    assert [(shape["height_px"], shape["width_px"]) for shape in model["shapes"]] == [
        (height_px, width_px) for height_px in edges_px for width_px in edges_px
    ]


def test_what_shall_run_on_a_gpu_is_never_measured_on_the_cpu(settings: dict[str, object], tmp_path: Path) -> None:
    """With the onnxruntime for CPUs, as it is installed."""
    path = tmp_path / "profile.json"
    done = _profile(path, **settings, provider="cuda")
    assert done.returncode == 1
    assert "nothing was measured" in done.stderr
    assert "shall run on CUDAExecutionProvider" in done.stderr
    assert not path.exists()


def test_a_service_foretells_from_it(measured: dict[str, Any], settings: dict[str, object], tmp_path: Path) -> None:
    profile = json.loads(json.dumps(measured))
    (shape,) = (
        shape
        for shape in profile["models"][0]["shapes"]
        if (shape["height_px"], shape["width_px"]) == (_SIDE_PX, _SIDE_PX)
    )
    shape |= {"per_unit_s": 7.0, "fixed_s": 0.5}

    with harness.running(tmp_path, **settings, profile_file=_written(profile, tmp_path)) as service:
        with connected(service.grpc_target) as stub:
            stub.Denoise(raw_request(noisy(1, _SIDE_PX, _SIDE_PX, 1)))
        offered_s = service.metric("denoised_offered_work_seconds_total", verdict="admitted")

    assert offered_s == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lane_count": 3}, "lane_count is 3 there and 1 here"),
        ({"onnxruntime": "0.1"}, "onnxruntime is 0.1 there"),
        ({"models": "other digest"}, "its digest is 000000000000.. there"),
        ({"models": "other name"}, "the profile does not know bench-s/1"),
        ({"schema_version": 2}, "is no profile of this release"),
    ],
    ids=["lanes", "runtime", "digest", "name", "schema"],
)
def test_a_profile_of_something_else_ends_it_with_1(
    change: dict[str, Any], says: str, measured: dict[str, Any], settings: dict[str, object], tmp_path: Path
) -> None:
    (model,) = measured["models"]
    others = {"other digest": model | {"digest": "0" * 64}, "other name": model | {"name": "another"}}
    if "models" in change:
        change = {"models": [others[change["models"]]]}

    text = _failure(tmp_path, **settings, profile_file=_written(measured | change, tmp_path))

    assert says in text
    assert "measure again with: python -m service profile --to FILE, or unset DENOISED_PROFILE_FILE" in text


def test_a_profile_that_is_not_there_ends_it_with_1(settings: dict[str, object], tmp_path: Path) -> None:
    assert "cannot read the profile" in _failure(tmp_path, **settings, profile_file=tmp_path / "none.json")


def _failure(folder: Path, **settings: object) -> str:
    """What a service says that must not start."""
    with harness.launched(folder, **settings) as process:
        assert process.wait(LIMIT_S) == 1
    text = log_of(folder)
    assert "Traceback" not in text
    assert "the service could not start" in text
    return text
