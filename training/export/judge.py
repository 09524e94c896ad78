"""Judges an int8 file by what it loses on pictures with clean truth, against the float file's answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from denoised.contract import ModelContract, Parity
from denoised.noise import LEVELS_8BIT, NoiseSpec
from training.data.pack import Pack
from training.errors import ExportError
from training.export import gate, onnx_file
from training.export.pictures import Picture, noisy_pictures

RECORDED: Final = "recorded"

_JUDGED_SIGMAS: Final = (5.0, 15.0, 25.0, 50.0)
_JUDGED_SIDE_PX: Final = 256
_JUDGED_PICTURE_COUNT: Final = 16
# Stronger noise leaves larger errors, beside which rounding must show less.
_STRONG_SIGMA: Final = 20.0
LARGEST_LOSS_DB: Final = 0.15
LARGEST_STRONG_LOSS_DB: Final = 0.05
_LEAST_AGREEMENT_DB: Final = 35.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Pictures with clean truth at one noise level.

    Attributes:
        label: what tables call it: its level, or ``recorded``.
        sigma: its level in 8-bit levels: on mid grey where the noise was drawn, root mean square where recorded.
        pictures: noisy and clean.
    """

    label: str
    sigma: float
    pictures: tuple[Picture, ...]


class Judge:
    """Pictures with clean truth, and what the float file makes of them.

    Attributes:
        image_set: ``held_out``, or ``training`` where the pack holds no image out.
        float_psnr_db: of the float file, by the condition's label.
    """

    def __init__(self, float_bytes: bytes, pack: Pack, contract: ModelContract) -> None:
        self.image_set = "held_out" if pack.held_out_images() else "training"
        self._conditions = judged_conditions(pack, contract.noise, multiple_px=contract.size_multiple_px)
        session = onnx_file.session(float_bytes)
        self._answers = {
            condition.label: [gate.image_of(session, picture.noisy) for picture in condition.pictures]
            for condition in self._conditions
        }
        self.float_psnr_db = self._psnr_db(self._answers)

    def describe(self) -> str:
        """What is compared with what, in one line for people."""
        images = "held-out images" if self.image_set == "held_out" else "training images, because none is held out"
        recorded = [f"{each.sigma:.1f}" for each in self._conditions if each.label == RECORDED]
        noise = (
            f"noise as recorded, {recorded[0]} 8-bit levels (root mean square)"
            if recorded
            else "noise in 8-bit levels on mid grey"
        )
        return f"PSNR in dB against clean {images}; {noise}"

    def psnr_db(self, model_bytes: bytes) -> dict[str, float]:
        """Mean PSNR of a file's answers against clean, by the condition's label."""
        session = onnx_file.session(model_bytes)
        return self._psnr_db(
            {each.label: [gate.image_of(session, p.noisy) for p in each.pictures] for each in self._conditions}
        )

    def loss_db(self, psnr_db: Mapping[str, float]) -> dict[str, float]:
        """By how much the float file is better."""
        return {label: self.float_psnr_db[label] - value for label, value in psnr_db.items()}

    def excess(self, model_bytes: bytes) -> float:
        """The largest loss in terms of what is allowed for its noise level; up to 1 is within the budget."""
        losses = self.loss_db(self.psnr_db(model_bytes))
        return max(losses[each.label] / largest_loss_db(each.sigma) for each in self._conditions)

    def agreement(self, model_bytes: bytes) -> Parity:
        """How close the answers are to the float file's; alike at every optimisation level.

        Raises:
            ExportError: at some level they are something else.
        """
        largest, worst_db = 0.0, float("inf")
        for level in onnx_file.OPTIMISATION_LEVELS:
            session = onnx_file.session(model_bytes, level=level)
            for condition in self._conditions:
                for picture, answer in zip(condition.pictures, self._answers[condition.label], strict=True):
                    got = gate.image_of(session, picture.noisy)
                    largest = max(largest, float(np.abs(got - answer).max()))
                    worst_db = min(worst_db, _psnr_db(got, answer))
            if not worst_db >= _LEAST_AGREEMENT_DB:
                raise ExportError(
                    f"at {level.name} the int8 file is {worst_db:.1f} dB from the float file; at least "
                    f"{_LEAST_AGREEMENT_DB:.0f} dB is right. This CPU may lack VNNI (see training doctor)"
                )
        return Parity(max_abs_difference=largest, psnr_db=round(min(worst_db, 200.0), 1))

    def _psnr_db(self, answers: Mapping[str, Sequence[NDArray[np.float32]]]) -> dict[str, float]:
        return {
            each.label: float(
                np.mean([_psnr_db(a, p.clean) for a, p in zip(answers[each.label], each.pictures, strict=True)])
            )
            for each in self._conditions
        }


def judged_conditions(pack: Pack, noise: NoiseSpec, *, multiple_px: int) -> tuple[Condition, ...]:
    """Clean images at every judged level of the noise; pairs once, with the noise that they have."""
    # A file doesn't say what it learnt from; its own pack does, because training refuses any other kind.
    supervision = pack.manifest.supervision
    side_px = -(-_JUDGED_SIDE_PX // multiple_px) * multiple_px

    def pictures(severity: float) -> tuple[Picture, ...]:
        found = noisy_pictures(
            pack,
            noise,
            supervision=supervision,
            held_out=True,
            count=_JUDGED_PICTURE_COUNT,
            severities=(severity,),
            multiple_px=multiple_px,
            least_px=side_px,
            most_px=side_px,
        )
        return tuple(found)

    if supervision == "clean":
        severities = judged_severities(noise)
        return tuple(Condition(f"{sigma:g}", sigma, pictures(severity)) for sigma, severity in severities.items())
    recorded = pictures(0.0)
    mean_square = np.mean([np.mean(np.square(p.noisy - p.clean, dtype=np.float64)) for p in recorded])
    return (Condition(RECORDED, LEVELS_8BIT * float(np.sqrt(mean_square)), recorded),)


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
