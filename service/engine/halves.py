"""The two halves of a network with a code: loaded beside the whole, checked against it, and run image by image.

Every image runs alone, on one thread, whatever batch it is in. ONNX Runtime's matrix products take another way for one
row than for several, so an image's last bits would depend on its neighbours; and the same seed must give the same
bytes. The halves are small networks, so that little is lost: some twenty microseconds for each image.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from denoised.contract import (
    CODE_NAME,
    COMPOSITION_TOLERANCE,
    DECODER_FILE,
    ENCODER_FILE,
    EPSILON_NAME,
    GENERATIVE_KINDS,
    IMAGE_OUTPUT_NAME,
    INPUT_NAME,
    LOG_VARIANCE_NAME,
    MEAN_NAME,
    ContractError,
    GoldenPair,
    ModelContract,
)
from denoised.seal import check_seal
from service.engine.network import OnnxEngine, read_file
from service.engine.options import EngineOptions, ModelRefused
from service.engine.sessions import open_session
from service.types import Units

_TIMED_COUNT: Final = 3


class Half:
    """An encoder or a decoder; an :class:`service.engine.network.Engine` for the batcher.

    Attributes:
        contract: of the model.
        digest: SHA-256 of the file.
        seconds: time of one image on one lane, measured at load.
    """

    def __init__(
        self,
        path: Path,
        contract: ModelContract,
        options: EngineOptions,
        *,
        outputs: tuple[str, ...],
        feed: Callable[[Units], dict[str, Units]],
    ) -> None:
        """
        Args:
            path: of the file.
            contract: that it must carry.
            options: the provider.
            outputs: names of one or two outputs.
            feed: one image or code, (1, ...), to the inputs by name.

        Raises:
            ModelRefused: no file, one that was changed since its export, of another model, or without these outputs.
        """
        session, self.digest = _opened(path, contract, options)
        missing = set(outputs) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelRefused(f"{path} has no output {', '.join(sorted(missing))}, which {contract.kind} promises")
        self.contract = contract
        self.seconds = 0.0
        self._session = session
        self._outputs = list(outputs)
        self._feed = feed

    def run(self, units: Units, *, lane: int) -> tuple[Units, Units | None]:
        """Computes each unit alone, on any lane: calls side by side share the session, and each has its own thread."""
        del lane
        answers = [self._session.run(self._outputs, self._feed(units[i : i + 1])) for i in range(len(units))]
        first, *second = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return first, second[0] if second else None

    def time(self, unit: Units) -> None:
        """Measures :attr:`seconds` with one unit, after a run that makes the arena grow."""
        for _ in range(_TIMED_COUNT):
            start_s = time.perf_counter()
            self.run(unit, lane=0)
            self.seconds = max(time.perf_counter() - start_s, 1e-9)


@dataclass(frozen=True, slots=True)
class Halves:
    """Encoder and decoder of one model."""

    encoder: Half
    decoder: Half


def load_halves(folder: Path, whole: OnnxEngine, options: EngineOptions) -> Halves:
    """Both halves, checked and warmed.

    Args:
        folder: the model's.
        whole: the same model from image to image.
        options: the provider.

    Raises:
        ModelRefused: a file is missing, damaged or of another model, or the two together are not the whole.
    """
    contract = whole.contract
    is_drawn = contract.kind in GENERATIVE_KINDS
    # Of a distribution the mean, which does not depend on the draw.
    nothing_drawn = np.zeros((1, contract.code_length), np.float32)
    encoder = Half(
        folder / ENCODER_FILE,
        contract,
        options,
        outputs=(MEAN_NAME, LOG_VARIANCE_NAME) if is_drawn else (CODE_NAME,),
        feed=lambda unit: {INPUT_NAME: unit, EPSILON_NAME: nothing_drawn} if is_drawn else {INPUT_NAME: unit},
    )
    decoder = Half(
        folder / DECODER_FILE, contract, options, outputs=(IMAGE_OUTPUT_NAME,), feed=lambda unit: {CODE_NAME: unit}
    )
    _check(folder, encoder, decoder, whole)
    return Halves(encoder, decoder)


def _opened(path: Path, contract: ModelContract, options: EngineOptions) -> tuple[ort.InferenceSession, str]:
    """The file's session and digest."""
    try:
        model_bytes = read_file(path, options)
    except OSError as error:
        raise ModelRefused(
            f"{path} can't be read: {error.strerror}. {contract.name} says that it can "
            f"{', '.join(contract.capabilities)}, which needs it; export the model again, or copy its whole folder"
        ) from error
    try:
        check_seal(model_bytes)
        session = open_session(path, model_bytes, options, thread_count=1)
        own = ModelContract.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ContractError as error:
        raise ModelRefused(f"{path}: {error}") from error
    if (own.name, own.version, own.run_config_digest, own.golden.noisy_base64) != (
        contract.name,
        contract.version,
        contract.run_config_digest,
        contract.golden.noisy_base64,
    ):
        raise ModelRefused(
            f"{path} is of {own.name}/{own.version}, or of another export of it, and lies beside "
            f"{contract.name}/{contract.version}; copy the folder whole from one export"
        )
    return session, hashlib.sha256(model_bytes).hexdigest()


def _check(folder: Path, encoder: Half, decoder: Half, whole: OnnxEngine) -> None:
    """Raises ModelRefused unless both together are the whole, on the golden picture, and make its answer of it."""
    contract = whole.contract
    if not contract.fixed_side_px:
        raise ModelRefused(f"{folder}: {contract.name} takes images of any size, so that a code has none; fix its size")
    golden = contract.golden
    unit = golden.noisy().astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
    code, _ = encoder.run(unit, lane=0)
    if code.shape != (1, contract.code_length):
        raise ModelRefused(
            f"{folder / ENCODER_FILE} answers with {code.shape[1:]} numbers and its contract promises "
            f"{contract.code_length}; export the model again"
        )
    image, _ = decoder.run(code, lane=0)
    levels = np.rint(np.clip(image[0], 0, 1) * 255).transpose(1, 2, 0)
    difference = float(np.abs(levels - golden.denoised().astype(np.float32)).max())
    if not difference <= GoldenPair.TOLERANCE_LEVELS:
        raise ModelRefused(
            f"{folder}: {ENCODER_FILE} and {DECODER_FILE} differ from the golden pair by {difference:g} levels; "
            f"at most {GoldenPair.TOLERANCE_LEVELS} is right. A file or the runtime is broken"
        )
    if contract.precision == "fp32":
        apart = float(np.abs(image - whole.run(unit, lane=0)[0]).max())
        if not apart <= COMPOSITION_TOLERANCE:
            raise ModelRefused(
                f"{folder}: {ENCODER_FILE} and {DECODER_FILE} together differ from the whole network by {apart:.2e}; "
                f"at most {COMPOSITION_TOLERANCE:.0e} is right. A file or the runtime is broken"
            )
    encoder.time(unit)
    decoder.time(code)
