"""Turns a run into a servable model: its ONNX files with their contract, and a card, published in one step.

Everything that the contract claims is measured here, on the written files. A check that fails leaves no file.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from denoised.contract import (
    GENERATIVE_KINDS,
    LATENT_KINDS,
    MODEL_FILE,
    Capability,
    GoldenPair,
    Kind,
    ModelContract,
    Parity,
)
from denoised.noise import NoiseSpec
from training.config import ConvDaeConfig, RunConfig
from training.data.pack import Pack
from training.errors import ExportError
from training.export import extent, gate, onnx_file
from training.export.calibrate import DEFAULT_CROP_COUNT, calibrate
from training.export.card import model_card
from training.export.evidence import evidence_of
from training.export.graphs import Graph, Signature, graphs_of
from training.export.pictures import golden_picture
from training.export.store import CARD_FILE, publish, target_of
from training.networks import macs_per_pixel
from training.run.directory import RunDir
from training.run.trained import load_trained

LICENSE: Final = "Apache-2.0"

_GOLDEN_SIDE_PX: Final = 64


@dataclass(frozen=True, slots=True)
class Exported:
    """What was published."""

    path: Path
    contract: ModelContract
    size_bytes: int


def export(
    run_dir: RunDir,
    pack: Pack,
    store: Path,
    *,
    version: str | None,
    calibration_crop_count: int = DEFAULT_CROP_COUNT,
    on_step: Callable[[str], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Publishes a run's network as ``<store>/<name>/<version>/``.

    Args:
        run_dir: a run with a checkpoint; what was measured on its weights goes into the contract and the card.
        pack: the images that it was trained on; those held out from training are what the file is measured on.
        store: made when missing.
        version: a whole number as text; None takes the one after the newest in the store.
        calibration_crop_count: see :func:`training.export.calibrate.calibrate`.
        on_step: told what is being done, for progress.
        on_note: told what the user should know besides.

    Raises:
        ExportError: a check failed, the version exists, or the store cannot be written.
    """
    trained = load_trained(run_dir)
    config, network, supervision = trained.config, trained.network, trained.config.data.supervision
    if trained.pack_digest != pack.manifest.digest:
        raise ExportError(
            f"the pack holds other images ({pack.manifest.digest[:16]}) than {run_dir.path} was trained on "
            f"({trained.pack_digest[:16]}); name the pack that was given to: python -m training train"
        )
    kind: Kind = config.network.kind
    target = target_of(store, config.name, version)
    evidence = evidence_of(run_dir, trained, on_note)
    graphs = graphs_of(network, kind)

    bare, parity = _written(graphs, on_step)
    session = onnx_file.session(bare[MODEL_FILE])
    if network.fixed_side_px is not None:
        on_step("checking that encoder and decoder make the whole")
        gate.check_composition(
            bare, channels=network.channels, side_px=network.fixed_side_px, code_length=network.code_length or 0
        )
    else:
        assert isinstance(config.network, ConvDaeConfig)
        on_step("reading the weights back")
        gate.check_readable(bare[MODEL_FILE], config.network, network)
        on_step("checking flat pictures")
        gate.check_flat_pictures(
            session,
            supervision,
            config.noise,
            channels=network.channels,
            multiple_px=network.size_multiple_px,
        )
    on_step("measuring how far it looks")
    seen = extent.measure(
        session,
        pack,
        config.noise,
        supervision=supervision,
        channels=network.channels,
        multiple_px=network.size_multiple_px,
        fixed_side_px=network.fixed_side_px,
    )
    on_step("calibrating")
    contract = ModelContract(
        name=config.name,
        version=target.name,
        kind=kind,
        capabilities=capabilities_of(kind),
        precision="fp32",
        summary=config.summary,
        channels=network.channels,
        noise=config.noise,
        levels=pack.manifest.levels,
        size_multiple_px=network.size_multiple_px,
        fixed_side_px=network.fixed_side_px or 0,
        unit_edges_px=seen.unit_edges_px,
        halo_px=seen.halo_px,
        receptive_field_px=seen.receptive_field_px,
        sigma_map_scale_px=network.sigma_map_scale_px or 0,
        code_length=network.code_length or 0,
        gmac_per_megapixel=round(macs_per_pixel(network) / 1e3, 2),
        parity=parity,
        tiling=seen.tiling,
        quality_db={evaluation.stem: evaluation.quality_db() for evaluation in evidence.evaluations},
        calibration=calibrate(
            session,
            pack,
            config.noise,
            supervision=supervision,
            size_multiple_px=network.size_multiple_px,
            fixed_side_px=network.fixed_side_px or 0,
            likelihood=config.loss.likelihood,
            # What training minimised, where that was an energy; else the scale that fits the answers best.
            reconstruction_sigma=config.loss.reconstruction_sigma if config.loss.objective == "energy" else None,
            crop_count=calibration_crop_count,
        ),
        training_data_digest=pack.manifest.digest,
        run_config_digest=config_digest(config),
        license=LICENSE,
        golden=golden_pair(
            session,
            config.noise,
            channels=network.channels,
            multiple_px=network.size_multiple_px,
            fixed_side_px=network.fixed_side_px,
        ),
    )
    card = model_card(contract, trained, evidence, pack.manifest, parent=run_dir.load_parent())
    on_step("publishing")
    metadata = contract.to_metadata()
    files = {name: onnx_file.with_metadata(model_bytes, metadata) for name, model_bytes in bare.items()}
    signatures = [graph.signature for graph in graphs]
    publish_checked(target, signatures, files, contract, card, private=(run_dir.path, store))
    return Exported(target / MODEL_FILE, contract, sum(map(len, files.values())))


def capabilities_of(kind: Kind) -> tuple[Capability, ...]:
    """What a service can ask of a network of this kind."""
    code: tuple[Capability, ...] = ("encode", "decode") if kind in LATENT_KINDS else ()
    draws: tuple[Capability, ...] = ("generate",) if kind in GENERATIVE_KINDS else ()
    return ("denoise", *code, *draws)


def config_digest(config: RunConfig) -> str:
    """SHA-256 of the config's text."""
    return hashlib.sha256(config.to_json().encode()).hexdigest()


def golden_pair(
    session: ort.InferenceSession, noise: NoiseSpec, *, channels: int, multiple_px: int, fixed_side_px: int | None
) -> GoldenPair:
    """A generated noisy picture, and this file's answer to it."""
    side_px = fixed_side_px or -(-_GOLDEN_SIDE_PX // multiple_px) * multiple_px
    noisy = golden_picture(noise, channels=channels, side_px=side_px)
    unit = noisy.astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
    answer = gate.rounded(gate.image_of(session, unit))
    return GoldenPair.of(noisy, answer[0].transpose(1, 2, 0).astype(np.uint8))


def publish_checked(
    target: Path,
    signatures: Sequence[Signature],
    files: Mapping[str, bytes],
    contract: ModelContract,
    card: str,
    *,
    private: Sequence[Path],
) -> None:
    """Writes files and card, reads them back, and makes them visible when all is as it was measured.

    Raises:
        ExportError: it is not; or a file names one of the private directories.
    """
    for model_bytes in files.values():
        gate.check_no_paths(model_bytes, private=private)
    publish(
        target,
        {**files, CARD_FILE: card.encode()},
        check=lambda folder: gate.check_written(folder, signatures, contract),
    )


def _written(graphs: Sequence[Graph], on_step: Callable[[str], None]) -> tuple[dict[str, bytes], Parity]:
    """Every graph as a file without contract, its structure and its answers checked; the worst parity of all."""
    files, parities = {}, []
    for graph in graphs:
        file_name = graph.signature.file_name
        on_step(f"writing {file_name}")
        model = onnx_file.to_onnx(graph)
        gate.check_structure(model, graph.signature)
        files[file_name] = model.SerializeToString()
        on_step(f"comparing ONNX Runtime with torch: {file_name}")
        parities.append(gate.check_parity(graph, files[file_name]))
    return files, Parity(
        max_abs_difference=max(parity.max_abs_difference for parity in parities),
        psnr_db=min(parity.psnr_db for parity in parities),
    )
