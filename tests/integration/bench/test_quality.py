"""``make quality`` on two small images: a real service, a colour and a one-channel network; its figures are true."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from denoised.noise import benchmark_noisy
from denoised.quality import psnr_db
from tests.bench.networks import M_FOLDER, S_FOLDER, Network, model_store
from tests.bench.quality.images import grey_of, photographs

pytest.importorskip("matplotlib", reason="the plot needs the training environment")
pytest.importorskip("cv2", reason="sheets are drawn by the training package")

pytestmark = [pytest.mark.training, pytest.mark.slow]

_LIMIT_S = 300
_REPOSITORY = Path(__file__).resolve().parents[3]
_SIGMA = 25
_COSTS = ("ms_per_megapixel", "raw_ms_per_megapixel")


def test_two_small_images_one_sigma_no_baselines(tmp_path: Path) -> None:
    images = tmp_path / "two"
    images.mkdir()
    cleans = [photograph.samples[100:180, 200:296] for photograph in photographs() if photograph.is_colour][:2]
    for name, clean in zip(("a.png", "b.png"), cleans, strict=True):
        PillowImage.fromarray(clean).save(images / name)
    out = tmp_path / "out"

    with model_store(S_FOLDER, M_FOLDER) as store:
        finished = subprocess.run(
            [
                *(sys.executable, "-m", "tests.bench.quality", "--images", images, "--sigmas", str(_SIGMA)),
                *("--no-baselines", "--json-dir", out, "--plots-dir", out, "--sheets", out),
            ],
            cwd=_REPOSITORY,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join((str(_REPOSITORY), str(_REPOSITORY / "proto"))),
                "DENOISED_MODELS_DIR": str(store),
                "DENOISED_DEFAULT_MODEL": M_FOLDER.name,
            },
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    assert finished.returncode == 0, finished.stdout + finished.stderr

    tree = json.loads((out / "quality-two.json").read_text(encoding="utf-8"))
    scores = {(s["method"], s["file"], s["protocol"], s["is_grey"]): s for s in tree["scores"]}
    colour, grey = (Network(next(folder.glob("*/model.onnx"))) for folder in (M_FOLDER, S_FOLDER))
    for index, (file, clean) in enumerate(zip(("a.png", "b.png"), cleans, strict=True)):
        noisy = benchmark_noisy(clean, sigma=_SIGMA, index=index)
        own = scores["bench-m/1", file, "gaussian", False]
        assert scores["noisy", file, "gaussian", False]["psnr_db"] == round(psnr_db(noisy, clean), 4)
        assert own["psnr_db"] == pytest.approx(psnr_db(colour.answer(noisy), clean), abs=0.01)
        as_grey = grey_of(clean)[:, :, np.newaxis]
        noisy_grey = benchmark_noisy(as_grey[:, :, 0], sigma=_SIGMA, index=index)[:, :, np.newaxis]
        own = scores["bench-s/1", file, "gaussian", True]
        assert own["psnr_db"] == pytest.approx(psnr_db(grey.answer(noisy_grey), as_grey), abs=0.01)

    rows = {row["method"]: row for row in tree["rows"]}
    assert list(rows) == ["noisy", "bench-m/1", "bench-s/1"]
    assert rows["bench-s/1"]["is_grey_only"]
    assert rows["bench-m/1"]["digest"] == hashlib.sha256(colour.path.read_bytes()).hexdigest()
    assert rows["bench-m/1"]["gmac_per_megapixel"] == colour.contract.gmac_per_megapixel
    assert all(rows[name][cost] > 0 for name in ("bench-m/1", "bench-s/1") for cost in _COSTS)
    assert tree["anchors"] == []
    # Tiles are an implementation's detail: the whole image at once gives the same answer.
    for found in tree["artefacts"]:
        assert found["seams"]["tile_count"] > 1
        assert found["seams"]["most_levels"] <= 1
    for name in ("quality-two.png", "bench-m-1.png", "bench-s-1.png"):
        with PillowImage.open(out / name) as picture:
            assert picture.format == "PNG"
    assert "`bench-m/1`" in finished.stdout
