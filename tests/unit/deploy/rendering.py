"""What kustomize makes of a folder of manifests."""

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"


def rendered(folder: Path) -> list[Any]:
    """The objects, in order; skips the test where nothing renders."""
    return list(yaml.safe_load_all(_rendered(folder)))


@lru_cache
def _rendered(folder: Path) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: nothing renders the kustomization")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def only(kind: str, objects: list[Any]) -> Any:
    """The one object of a kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def pod_of(workload: Any) -> Any:
    """The pod of a Deployment or a Job."""
    return workload["spec"]["template"]["spec"]
