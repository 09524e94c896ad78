"""Judges an int8 file by what it loses on held-out pictures with clean truth, against the float file's answers."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.contract import ModelContract, Parity
from denoised.noise import NoiseSpec
from training.data.pack import Pack
from training.errors import ExportError
from training.export import gate, onnx_file
from training.export.pictures import noisy_pictures

_JUDGED_SIGMAS: Final = (5.0, 15.0, 25.0, 50.0)
_JUDGED_SIDE_PX: Final = 256
_JUDGED_PICTURE_COUNT: Final = 16
# Stronger noise leaves larger errors, beside which rounding must show less.
_STRONG_SIGMA: Final = 20.0
LARGEST_LOSS_DB: Final = 0.15
LARGEST_STRONG_LOSS_DB: Final = 0.05
_LEAST_AGREEMENT_DB: Final = 35.0


class Judge:
    """Pictures with clean truth, and what the float file makes of them."""

    def __init__(self, float_bytes: bytes, pack: Pack, contract: ModelContract) -> None:
        multiple_px = contract.size_multiple_px
        side_px = -(-_JUDGED_SIDE_PX // multiple_px) * multiple_px
        self._pictures = {
            sigma: list(
                noisy_pictures(
                    pack,
                    contract.noise,
                    held_out=True,
                    count=_JUDGED_PICTURE_COUNT,
                    severities=(severity,),
                    multiple_px=multiple_px,
                    least_px=side_px,
                    most_px=side_px,
                )
            )
            for sigma, severity in judged_severities(contract.noise).items()
        }
        session = onnx_file.session(float_bytes)
        self._answers = {
            sigma: [gate.image_of(session, picture.noisy) for picture in pictures]
            for sigma, pictures in self._pictures.items()
        }
        self.float_psnr_db = {
            sigma: float(np.mean([_psnr_db(a, p.clean) for a, p in zip(answers, self._pictures[sigma], strict=True)]))
            for sigma, answers in self._answers.items()
        }

    def psnr_db(self, model_bytes: bytes) -> dict[float, float]:
        """Mean PSNR of a file's answers against clean, by noise level."""
        session = onnx_file.session(model_bytes)
        return {
            sigma: float(np.mean([_psnr_db(gate.image_of(session, p.noisy), p.clean) for p in pictures]))
            for sigma, pictures in self._pictures.items()
        }

    def loss_db(self, psnr_db: Mapping[float, float]) -> dict[float, float]:
        """By how much the float file is better."""
        return {sigma: self.float_psnr_db[sigma] - value for sigma, value in psnr_db.items()}

    def excess(self, model_bytes: bytes) -> float:
        """The largest loss in terms of what is allowed for its noise level; up to 1 is within the budget."""
        losses = self.loss_db(self.psnr_db(model_bytes))
        return max(loss / largest_loss_db(sigma) for sigma, loss in losses.items())

    def agreement(self, model_bytes: bytes) -> Parity:
        """How close the answers are to the float file's; alike at every optimisation level.

        Raises:
            ExportError: at some level they are something else.
        """
        largest, worst_db = 0.0, float("inf")
        for level in onnx_file.OPTIMISATION_LEVELS:
            session = onnx_file.session(model_bytes, level=level)
            for sigma, pictures in self._pictures.items():
                for picture, answer in zip(pictures, self._answers[sigma], strict=True):
                    got = gate.image_of(session, picture.noisy)
                    largest = max(largest, float(np.abs(got - answer).max()))
                    worst_db = min(worst_db, _psnr_db(got, answer))
            if not worst_db >= _LEAST_AGREEMENT_DB:
                raise ExportError(
                    f"at {level.name} the int8 file is {worst_db:.1f} dB from the float file; at least "
                    f"{_LEAST_AGREEMENT_DB:.0f} dB is right. This CPU may lack VNNI (see training doctor)"
                )
        return Parity(max_abs_difference=largest, psnr_db=round(min(worst_db, 200.0), 1))


def judged_severities(noise: NoiseSpec) -> dict[float, float]:
    """Severities by the noise level on mid grey that each stands for: 5, 15, 25 and 50 as far as the range has them."""
    low, high = noise.at(0.0).sigma_max, noise.at(1.0).sigma_max
    wanted = [(sigma - low) / (high - low) for sigma in _JUDGED_SIGMAS if low <= sigma <= high and low < high]
    return {round(noise.at(severity).sigma_max, 2): severity for severity in wanted or (0.5,)}


def largest_loss_db(sigma: float) -> float:
    """What may be lost at a noise level in 8-bit levels."""
    return LARGEST_STRONG_LOSS_DB if sigma >= _STRONG_SIGMA else LARGEST_LOSS_DB


def _psnr_db(image: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    error = np.clip(image, 0, 1) - np.clip(reference, 0, 1)
    return -10 * float(np.log10(max(float(np.mean(np.square(error, dtype=np.float64))), 1e-20)))
