"""Drift from end to end: images through a real service, its metrics into a real Prometheus, the shipped rule fires.

The rule's hour is a minute here, and its quarter of an hour is gone; all else is as shipped.
"""

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml
from skimage import data

from denoised import Client
from service.demo.process import RunningService, running_service
from tests.bench.energy.traffic import image_of
from tests.integration.harness import until

_RULES: Final = Path(__file__).parents[2] / "deploy" / "monitoring" / "rules" / "drift.yaml"
# Made for white noise alone: what a JPEG left of noise is drift to it.
_MODEL: Final = "gaussian-base"
_IMAGE_COUNT: Final = 110
_SIDE_PX: Final = 96
_LIMIT_S: Final = 240.0


def _rules(path: Path) -> None:
    """The shipped rules for a minute in place of an hour, and without a wait."""
    document = yaml.safe_load(_RULES.read_text(encoding="utf-8").replace("[1h]", "[1m]"))
    for group in document["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


@contextmanager
def _prometheus(folder: Path, service: RunningService) -> Iterator[str]:
    """A Prometheus that scrapes the service each second; its URL."""
    _rules(folder / "rules.yaml")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": "denoised", "static_configs": [{"targets": [service.http_url.removeprefix("http://")]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{_port(process, folder / 'log')}"
    finally:
        process.terminate()
        process.wait()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Where it listens, as it says itself."""
    ports: list[str] = []

    def has_spoken() -> list[str]:
        text = log.read_text(encoding="utf-8")
        assert process.poll() is None, text
        ports[:] = re.findall(r"address=127\.0\.0\.1:([1-9]\d*)", text)
        return ports

    until(has_spoken, "Prometheus said where it listens", limit_s=_LIMIT_S)
    return int(ports[0])


def _asked(url: str, query: str) -> list[Any]:
    with urllib.request.urlopen(f"{url}/api/v1/query?query={query}") as response:
        return list(json.load(response)["data"]["result"])


def _crops() -> Iterator[np.ndarray]:
    # scikit-image has no types.
    pictures = [getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    rng = np.random.default_rng(3)
    for number in range(_IMAGE_COUNT):
        picture = pictures[number % len(pictures)]
        top, left = (int(rng.integers(side - _SIDE_PX)) for side in picture.shape[:2])
        yield np.ascontiguousarray(picture[top : top + _SIDE_PX, left : left + _SIDE_PX])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blurred", "noise 25, jpeg", "noise 70"])
def test_other_images_than_the_model_was_made_for_fire_the_alert(kind: str, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed; it is Debian's package prometheus")
    with running_service() as service, _prometheus(tmp_path, service) as url:
        with Client(service.grpc_target) as client:
            # Increases are seen from a first scrape on.
            client.inspect(next(_crops()), model=_MODEL)
            until(lambda: _asked(url, "denoised_energy_quantile_count"), "a first scrape was seen", limit_s=_LIMIT_S)
            for number, crop in enumerate(_crops()):
                client.inspect(image_of(kind, crop, number), model=_MODEL)
        alert = 'ALERTS{alertname="DenoisedInputDrift",alertstate="firing"}'.replace('"', "%22")
        until(lambda: _asked(url, alert), "the alert fired", limit_s=_LIMIT_S)
