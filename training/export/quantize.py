"""Makes the int8 variant of an exported model: as accurate as the budget asks and faster than it was, or none."""

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from denoised.contract import INT8_MODEL_FILE, ModelContract
from training.data.pack import Pack
from training.errors import ExportError
from training.export import extent, gate, onnx_file
from training.export.calibrate import DEFAULT_CROP_COUNT, calibrate
from training.export.card import quantised_card
from training.export.graphs import ALLOWED_OPS, Port, Signature
from training.export.int8_graph import Fusion, Quantiser, fusion_of
from training.export.judge import LARGEST_LOSS_DB, LARGEST_STRONG_LOSS_DB, Judge
from training.export.pictures import noisy_pictures
from training.export.publish import Exported, golden_pair
from training.export.speed import SpeedUp, speed_up
from training.export.store import INT8_CARD_FILE, add, require_addable
from training.run.published import open_published

_CALIBRATION_CROP_COUNT: Final = 200
_CALIBRATION_SIDE_PX: Final = 128
_CALIBRATION_SEVERITY_COUNT: Final = 20
_QUANTISING_OPS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})

_FILES: Final = (INT8_CARD_FILE, INT8_MODEL_FILE)

Speed = Callable[..., Sequence[SpeedUp]]


@dataclass(frozen=True, slots=True)
class Quantised:
    """What was published, and how it compares with the file that it was made from.

    Attributes:
        psnr_db: of the 8-bit file against clean pictures, by noise level as tables call it.
        loss_db: by how much less that is than the float file's.
        excluded: convolutions that stayed in floats because of the budget.
    """

    exported: Exported
    fusion: Fusion
    speed: Sequence[SpeedUp]
    psnr_db: Mapping[str, float]
    loss_db: Mapping[str, float]
    excluded: Sequence[str]


def quantize(
    source: Path,
    pack: Pack,
    *,
    calibration_crop_count: int = DEFAULT_CROP_COUNT,
    on_step: Callable[[str], None] = lambda _: None,
    measure_speed: Speed = speed_up,
) -> Quantised:
    """Publishes ``model.int8.onnx`` beside ``model.onnx``, under the same name and version.

    Args:
        source: directory of an exported version, such as ``models/gaussian-base/1``, or ``model.onnx`` in it.
        pack: the images that it was trained on; training images calibrate, those held out judge, or all without such.
        calibration_crop_count: see :func:`training.export.calibrate.calibrate`.
        on_step: told what is being done, for progress.
        measure_speed: of two files.

    Raises:
        RunError: the source is missing or damaged.
        ExportError: it is of a kind that isn't quantised, it has such a variant already, no variant
            keeps the budget, ONNX Runtime would not run it in integers, or it is not faster.
    """
    path, model_bytes, float_contract = _read(source, pack)
    require_addable(path.parent, _FILES)
    with tempfile.TemporaryDirectory() as folder:
        on_step("collecting calibration crops")
        quantiser = Quantiser(model_bytes, _calibration_crops(pack, float_contract), Path(folder))
        judge = Judge(model_bytes, pack, float_contract)
        on_step("choosing convolutions")
        int8_bytes, excluded = within_budget(quantiser, judge, on_step)
        fusion = fusion_of(int8_bytes, Path(folder))
    if fusion.fused_count < fusion.quantised_count:
        raise ExportError(
            f"ONNX Runtime runs {fusion.fused_count} of {fusion.quantised_count} quantised convolutions in integers; "
            "the others would be slower than in floats. Publish the float model alone"
        )
    on_step("timing")
    speed = measure_speed(
        model_bytes, int8_bytes, channels=float_contract.channels, multiple_px=float_contract.size_multiple_px
    )
    _check_speed(speed)

    on_step("measuring the halo and calibrating")
    signature = _signature(model_bytes, float_contract)
    gate.check_structure(onnx.load_from_string(int8_bytes), signature)
    session = onnx_file.session(int8_bytes)
    noise, multiple_px = float_contract.noise, float_contract.size_multiple_px
    supervision = pack.manifest.supervision
    seen = extent.measure(
        session,
        pack,
        noise,
        supervision=supervision,
        channels=float_contract.channels,
        multiple_px=multiple_px,
        fixed_side_px=None,
    )
    psnr_db = judge.psnr_db(int8_bytes)
    contract = replace(
        float_contract,
        precision="int8",
        unit_edges_px=seen.unit_edges_px,
        halo_px=seen.halo_px,
        receptive_field_px=seen.receptive_field_px,
        tiling=seen.tiling,
        parity=judge.agreement(int8_bytes),
        quality_db={judge.image_set: {label: round(value, 2) for label, value in psnr_db.items()}},
        calibration=calibrate(
            session,
            pack,
            noise,
            supervision=supervision,
            size_multiple_px=multiple_px,
            crop_count=calibration_crop_count,
        ),
        golden=golden_pair(
            session, noise, channels=float_contract.channels, multiple_px=multiple_px, fixed_side_px=None
        ),
    )
    on_step("publishing")
    loss_db = judge.loss_db(psnr_db)
    findings = _findings(fusion, speed, judge, psnr_db)
    sealed = onnx_file.with_metadata(int8_bytes, contract.to_metadata())
    gate.check_no_paths(sealed, private=(path.parent,))
    card = quantised_card(contract, findings)
    add(
        path.parent,
        # The card first: whoever sees the model finds it.
        {INT8_CARD_FILE: card.encode(), INT8_MODEL_FILE: sealed},
        check=lambda folder: gate.check_written(folder, (signature,), contract),
    )
    exported = Exported(path.with_name(INT8_MODEL_FILE), contract, len(sealed))
    return Quantised(exported, fusion, speed, psnr_db, loss_db, excluded)


class Variants(Protocol):
    """What makes 8-bit variants."""

    candidates: tuple[str, ...]

    def quantised(self, names: Collection[str]) -> bytes: ...


class Judging(Protocol):
    """What says by how much a file is over the budget."""

    def excess(self, model_bytes: bytes) -> float: ...


def within_budget(
    quantiser: Variants, judge: Judging, on_step: Callable[[str], None] = lambda _: None
) -> tuple[bytes, tuple[str, ...]]:
    """A file within the budget, and the convolutions that had to stay in floats for it: the most harmful ones.

    Raises:
        ExportError: not even one convolution keeps the budget.
    """
    kept = list(quantiser.candidates)
    excluded: list[str] = []
    harm: dict[str, float] = {}
    while kept:
        model_bytes = quantiser.quantised(kept)
        excess = judge.excess(model_bytes)
        if excess <= 1.0:
            return model_bytes, tuple(excluded)
        on_step(f"{len(kept)} convolutions in 8 bit lose {excess:.2f} times what is allowed")
        harm = harm or {name: judge.excess(quantiser.quantised([name])) for name in kept}
        worst = max(kept, key=lambda name: harm[name])
        kept.remove(worst)
        excluded.append(worst)
    raise ExportError(
        f"no convolution can be in 8 bit within {LARGEST_LOSS_DB} dB at weak and {LARGEST_STRONG_LOSS_DB} dB at "
        f"strong noise; of {len(quantiser.candidates)} that were tried alone the mildest loses "
        f"{min(harm.values(), default=0.0):.2f} times that. Publish the float model alone"
    )


def _check_speed(speed: Sequence[SpeedUp]) -> None:
    slower = [each for each in speed if not each.ratio > 1.0]
    if slower:
        raise ExportError(
            "the int8 file is not faster than the float file: "
            + "; ".join(
                f"{each.width_px} x {each.height_px} takes {each.second_ms:.2f} ms against {each.first_ms:.2f} "
                f"(ratio {each.ratio:.2f}, quartiles {each.low:.2f} to {each.high:.2f})"
                for each in slower
            )
            + ". Nothing was published"
        )


def _read(source: Path, pack: Pack) -> tuple[Path, bytes, ModelContract]:
    """The float file and where it lies; its contract says how it is quantised."""
    published = open_published(source)
    path, contract = published.path, published.contract
    problems = []
    if contract.precision != "fp32":
        problems.append(f"its precision is {contract.precision}; give the fp32 version")
    if contract.kind != "conv_dae":
        problems.append(f"its kind is {contract.kind}; only conv_dae is large enough to gain anything")
    if pack.manifest.supervision == "noisy":
        problems.append("the pack has noisy images alone; the loss is measured against clean ones")
    if pack.manifest.digest != contract.training_data_digest:
        problems.append("the pack is not the one that it was trained on")
    if problems:
        raise ExportError(f"{path} is not quantised: {'; '.join(problems)}")
    return path, published.model_bytes, contract


def _signature(model_bytes: bytes, contract: ModelContract) -> Signature:
    """What the 8-bit file must look like from outside: as the float file does."""
    graph = onnx.load_from_string(model_bytes).graph
    inputs, outputs = (
        tuple(
            Port(value.name, tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim))
            for value in values
        )
        for values in (graph.input, graph.output)
    )
    allowed = ALLOWED_OPS[contract.kind] | _QUANTISING_OPS
    return Signature(INT8_MODEL_FILE, inputs, outputs, allowed)


def _calibration_crops(pack: Pack, contract: ModelContract) -> list[NDArray[np.float32]]:
    multiple_px = contract.size_multiple_px
    side_px = -(-_CALIBRATION_SIDE_PX // multiple_px) * multiple_px
    return [
        picture.noisy
        for picture in noisy_pictures(
            pack,
            contract.noise,
            supervision=pack.manifest.supervision,
            held_out=False,
            count=_CALIBRATION_CROP_COUNT,
            severities=np.linspace(0.0, 1.0, _CALIBRATION_SEVERITY_COUNT).tolist(),
            multiple_px=multiple_px,
            least_px=side_px,
            most_px=side_px,
        )
    ]


def _findings(fusion: Fusion, speed: Sequence[SpeedUp], judge: Judge, int8_db: Mapping[str, float]) -> str:
    float_db, lost_db = judge.float_psnr_db, judge.loss_db(int8_db)
    lines = [
        f"{fusion.fused_count} of {fusion.total_count} convolutions run in 8-bit integers. The first and the last,",
        "the noise estimate, the sums along the network and the residual stay in floats.",
        "",
        f"{judge.describe()}:",
        "",
        "| noise | fp32 | int8 | lost |",
        "|---|---|---|---|",
        *(
            f"| {label} | {float_db[label]:.2f} | {value:.2f} | {lost_db[label]:.3f} |"
            for label, value in int8_db.items()
        ),
        "",
        "Time of one picture on one thread of the machine that made this file, medians of interleaved runs:",
        "",
        "| pixels | fp32, ms | int8, ms | times as fast (quartiles) |",
        "|---|---|---|---|",
        *(
            f"| {each.width_px} x {each.height_px} | {each.first_ms:.2f} | {each.second_ms:.2f} | {each.ratio:.2f} "
            f"({each.low:.2f} to {each.high:.2f}) |"
            for each in speed
        ),
    ]
    return "\n".join(lines) + "\n"
