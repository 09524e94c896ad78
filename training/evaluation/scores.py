"""What an evaluation found, as data: one score for each image and noise level, and their means."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image at one noise level."""

    file: str
    sigma: float
    sigma_found: float
    noisy_psnr_db: float
    psnr_db: float
    noisy_ssim: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All scores of a network on one set of images."""

    image_set: str
    metric: str
    scores: tuple[ImageScore, ...]

    def sigmas(self) -> list[float]:
        return sorted({score.sigma for score in self.scores})

    def mean(self, sigma: float, value: Callable[[ImageScore], float]) -> float:
        """Mean of one figure over the images at a noise level."""
        return float(np.mean([value(score) for score in self.scores if score.sigma == sigma]))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Evaluation":
        tree = json.loads(text)
        return cls(tree["image_set"], tree["metric"], tuple(ImageScore(**score) for score in tree["scores"]))

    def table(self) -> str:
        """The means as Markdown."""
        lines = ["| sigma | noisy PSNR | PSNR | noisy SSIM | SSIM | sigma found |", "|---|---|---|---|---|---|"]
        for sigma in self.sigmas():
            values = (
                self.mean(sigma, lambda s: s.noisy_psnr_db),
                self.mean(sigma, lambda s: s.psnr_db),
                self.mean(sigma, lambda s: s.noisy_ssim),
                self.mean(sigma, lambda s: s.ssim),
                self.mean(sigma, lambda s: s.sigma_found),
            )
            noisy_psnr, psnr, noisy_ssim, own_ssim, found = values
            lines.append(
                f"| {sigma:g} | {noisy_psnr:.2f} | {psnr:.2f} | {noisy_ssim:.3f} | {own_ssim:.3f} | {found:.1f} |"
            )
        return "\n".join(lines)
