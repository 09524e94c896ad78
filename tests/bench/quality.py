"""What users get: evaluation images, noisy, sent as PNG through the running service, compared with the clean ones.

Noise by the benchmark's protocol (clipped, 8 bit; see denoised.noise.benchmark_noisy). Prints a Markdown table and
writes it as JSON. Without --images: the Kodak photographs where they lie beside the checkout, and scikit-image's.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage
from tqdm import tqdm

from denoised import Client
from denoised.noise import benchmark_noisy
from denoised.quality import METRIC_DEFINITION, psnr_db, ssim
from service.demo.process import running_service

_SIGMAS = (15, 25, 50)
_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")
_IN_FLIGHT = 2
# Evaluation photographs that may lie beside the checkout; never part of it.
_KODAK = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "val" / "kodak24_500"


@dataclass(frozen=True, slots=True)
class Score:
    """One image at one noise level, as it came back."""

    file: str
    sigma: int
    sigma_found: float
    noisy_psnr_db: float
    psnr_db: float
    noisy_ssim: float
    ssim: float
    compute_ms_per_megapixel: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, action="append", help="folder of clean 8-bit images; may be repeated")
    parser.add_argument("--sigmas", type=int, nargs="+", default=list(_SIGMAS), help="noise levels (default 15 25 50)")
    parser.add_argument("--json-dir", type=Path, default=Path("build"), help="where quality-<set>.json goes")
    arguments = parser.parse_args()
    arguments.json_dir.mkdir(parents=True, exist_ok=True)
    folders: list[Path | None] = arguments.images or ([_KODAK, None] if _KODAK.is_dir() else [None])
    with running_service() as running, Client(running.grpc_target) as client:
        model = next(m for m in client.models() if m.is_default)
        for folder in folders:
            image_set = folder.resolve().name if folder else "scikit-image"
            scores = _score_all(client, list(_images(folder)), arguments.sigmas)
            print(f"`{model.name}` version {model.version}, `{image_set}`. {METRIC_DEFINITION}.\n\n{_table(scores)}\n")
            record = {
                "image_set": image_set,
                "model": {"name": model.name, "version": model.version, "digest": model.digest},
                "metric": METRIC_DEFINITION,
                "scores": [asdict(score) for score in scores],
            }
            target = arguments.json_dir / f"quality-{image_set}.json"
            target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(f"written to {target}\n")


def _score_all(client: Client, cleans: Sequence[tuple[str, NDArray[np.uint8]]], sigmas: Sequence[int]) -> list[Score]:
    jobs = [(index, name, clean, sigma) for index, (name, clean) in enumerate(cleans) for sigma in sigmas]
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        return list(tqdm(pool.map(lambda job: _score(client, *job), jobs), total=len(jobs), unit="image"))


def _images(folder: Path | None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(name, uint8 samples), sorted by name: the position decides an image's noise."""
    if folder is None:
        for name in _PHOTOGRAPHS:
            yield name, getattr(skimage.data, name)()
        return
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    if not paths:
        raise SystemExit(f"{folder} holds no images; name a folder with PNG, JPEG or WebP files")
    for path in paths:
        with PillowImage.open(path) as image:
            yield path.name, np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _score(client: Client, index: int, name: str, clean: NDArray[np.uint8], sigma: int) -> Score:
    noisy = benchmark_noisy(clean, sigma=sigma, index=index)
    buffer = io.BytesIO()
    PillowImage.fromarray(noisy).save(buffer, "PNG", compress_level=1)
    result = client.clean(buffer.getvalue())
    denoised = np.asarray(PillowImage.open(io.BytesIO(result.image)))
    return Score(
        file=name,
        sigma=sigma,
        sigma_found=round(result.noise_sigma or 0.0, 2),
        noisy_psnr_db=round(psnr_db(noisy, clean), 4),
        psnr_db=round(psnr_db(denoised, clean), 4),
        noisy_ssim=round(ssim(noisy, clean), 5),
        ssim=round(ssim(denoised, clean), 5),
        compute_ms_per_megapixel=round(result.timings.compute_s * 1e9 / (clean.shape[0] * clean.shape[1]), 1),
    )


def _table(scores: list[Score]) -> str:
    lines = [
        "| sigma | noisy PSNR | PSNR | noisy SSIM | SSIM | sigma found | compute ms/MP |",
        "|---|---|---|---|---|---|---|",
    ]
    for sigma in sorted({score.sigma for score in scores}):
        own = [asdict(score) for score in scores if score.sigma == sigma]
        mean = {key: float(np.mean([score[key] for score in own])) for key in own[0] if key != "file"}
        lines.append(
            f"| {sigma} | {mean['noisy_psnr_db']:.2f} | {mean['psnr_db']:.2f} | {mean['noisy_ssim']:.3f} "
            f"| {mean['ssim']:.3f} | {mean['sigma_found']:.1f} | {mean['compute_ms_per_megapixel']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
