"""Turns a run into a servable model: one ONNX file with its contract, and a card, published in one step.

Everything that the contract claims is measured here, on the written file. A check that fails leaves no file.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.contract import GoldenPair, ModelContract, TilingError
from denoised.noise import NoiseSpec, keyed_rng
from training.data.pack import Pack
from training.errors import ExportError
from training.evaluation.measure import load_network
from training.export import onnx_file
from training.export.card import model_card
from training.networks.conv_dae import macs_per_pixel
from training.run.directory import RunDir

LICENSE: Final = "Apache-2.0"
MODEL_FILE: Final = "model.onnx"
CARD_FILE: Final = "README.md"

# Common sizes first; the largest, 512 and a halo, makes 1024 exactly two tiles.
_BASE_EDGES_PX: Final = (64, 96, 128, 192, 256, 320, 384, 448, 512)
_SEAM_EDGE_PX: Final = 512
_LARGEST_HALO_PX: Final = 128
_MAX_LEVELS: Final = 1
_MAX_DIFFERING_SHARE: Final = 0.001
_SEAM_SIGMAS: Final = (5.0, 25.0, 50.0)
_SEAM_KEY: Final = 2**33


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
    on_step: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Publishes a run's network as ``<store>/<name>/<version>/``.

    Args:
        run_dir: a run with a checkpoint; its evaluations go into the contract and the card.
        pack: the images that it was trained on; those held out from training measure the halo.
        store: made when missing.
        version: a whole number as text; None takes the one after the newest in the store.
        on_step: told what is being done, for progress.

    Raises:
        ExportError: a check failed, or the version exists.
    """
    config, network = load_network(run_dir)
    target = _target(store, config.name, version)
    channels, multiple_px = network.channels, network.size_multiple_px
    on_step("writing the graph")
    graph = onnx_file.to_onnx(network, channels=channels, size_multiple_px=multiple_px)
    onnx_file.check_structure(graph)
    on_step("comparing ONNX Runtime with torch")
    parity = onnx_file.check_parity(network, graph.SerializeToString(), channels=channels, size_multiple_px=multiple_px)
    session = onnx_file.session(graph.SerializeToString())
    on_step("measuring the halo")
    halo_px, tiling = measure_halo(session, _seam_images(pack, config.noise), multiple_px=multiple_px)
    on_step("checking constants")
    _check_constants(session, channels=channels, side_px=max(64, multiple_px))
    evaluations = run_dir.load_evaluations()
    contract = ModelContract(
        name=config.name,
        version=target.name,
        kind=config.network.kind,
        summary=config.summary,
        channels=channels,
        noise=config.noise,
        size_multiple_px=multiple_px,
        unit_edges_px=(*_BASE_EDGES_PX, _BASE_EDGES_PX[-1] + halo_px),
        halo_px=halo_px,
        sigma_map_scale_px=network.sigma_map_scale_px,
        gmac_per_megapixel=round(macs_per_pixel(network, channels=channels) / 1e3, 2),
        parity=parity,
        tiling=tiling,
        quality_db={
            e.image_set: {f"{sigma:g}": round(e.mean(sigma, lambda s: s.psnr_db), 2) for sigma in e.sigmas()}
            for e in evaluations
        },
        training_data_digest=pack.manifest.digest,
        run_config_digest=hashlib.sha256(config.to_json().encode()).hexdigest(),
        license=LICENSE,
        golden=_golden_pair(session, config.noise, channels=channels),
    )
    model = onnx_file.with_metadata(graph, contract.to_metadata())
    _check_no_paths(model.SerializeToString(), run_dir.path)
    card = model_card(contract, config, evaluations, pack.manifest, parent=run_dir.load_parent_config())
    on_step("publishing")
    size_bytes = _publish(target, model.SerializeToString(), card)
    return Exported(target / MODEL_FILE, contract, size_bytes)


def measure_halo(
    session: ort.InferenceSession, images: Sequence[NDArray[np.float32]], *, multiple_px: int
) -> tuple[int, TilingError]:
    """The smallest halo at which a tile's own pixels are those of the whole image, and what difference is left.

    Each image's centre is computed once inside the whole image and once as a tile with four inner sides, both
    rounded to 8 bit. At most one level, on at most 0.1 % of the values, may differ.

    Raises:
        ExportError: no halo up to 128 pixels is enough: the network has some global operation.
    """
    differences = [_seam_difference(session, image, multiple_px=multiple_px) for image in images]
    error = TilingError(255, 1.0)
    for halo_px in range(multiple_px, _LARGEST_HALO_PX + 1, multiple_px):
        inner = [d[:, :, halo_px:-halo_px, halo_px:-halo_px] for d in differences]
        value_count = sum(d.size for d in inner)
        if value_count == 0:
            break
        error = TilingError(
            max_levels=max(int(d.max(initial=0)) for d in inner),
            differing_share=sum(int(np.count_nonzero(d)) for d in inner) / value_count,
        )
        if error.max_levels <= _MAX_LEVELS and error.differing_share <= _MAX_DIFFERING_SHARE:
            return halo_px, error
    raise ExportError(
        f"tiles differ from the whole image by {error.max_levels} levels on {error.differing_share:.2%} of the values "
        f"even with the largest halo that was tried; a servable network has no global operation, and the images that "
        f"it is measured on must be large enough"
    )


def _seam_difference(
    session: ort.InferenceSession, image: NDArray[np.float32], *, multiple_px: int
) -> NDArray[np.float32]:
    """Levels by which a tile from an image's middle differs from the same place in the whole image."""
    whole = _rounded(session, image)
    sides = image.shape[2:]
    edges = [min(_SEAM_EDGE_PX, side - 2 * multiple_px) for side in sides]
    starts = [(side - edge) // 2 // multiple_px * multiple_px for side, edge in zip(sides, edges, strict=True)]
    rows, columns = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
    tile = _rounded(session, np.ascontiguousarray(image[:, :, rows, columns]))
    difference: NDArray[np.float32] = np.abs(tile - whole[:, :, rows, columns])
    return difference


def _seam_images(pack: Pack, noise: NoiseSpec) -> list[NDArray[np.float32]]:
    """Noisy held-out images, (1, C, H, W), cut to what the check needs; all images when none is held out."""
    images = pack.held_out_images() or pack.training_images()
    noisy = []
    for index, image in enumerate(images):
        height_px, width_px = (
            min(side // 64 * 64, _SEAM_EDGE_PX + 2 * _LARGEST_HALO_PX) for side in (image.height_px, image.width_px)
        )
        pixels = pack.pixels(image)[:height_px, :width_px]
        sigma = float(np.clip(_SEAM_SIGMAS[index % len(_SEAM_SIGMAS)], noise.sigma_min, noise.sigma_max))
        clean = pixels.astype(np.float32) / np.float32(255)
        sample = noise.apply(clean, sigma=sigma, rng=keyed_rng(_SEAM_KEY, index))
        noisy.append(np.ascontiguousarray(sample.transpose(2, 0, 1))[np.newaxis])
    return noisy


def _rounded(session: ort.InferenceSession, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    levels: NDArray[np.float32] = np.rint(np.clip(onnx_file.run(session, noisy)[0], 0, 1) * 255)
    return levels


def _check_constants(session: ort.InferenceSession, *, channels: int, side_px: int) -> None:
    """White, black and grey come back within one level, and grey stays without colour."""
    for level in range(0, 256, 5):
        flat = np.full((1, channels, side_px, side_px), level / 255, dtype=np.float32)
        difference = float(np.abs(_rounded(session, flat) - level).max())
        if difference > 1:
            raise ExportError(
                f"a picture of constant level {level} comes back {difference:.0f} levels off; at most 1 is allowed. "
                "Train longer, or with weak noise in the range"
            )


def _golden_pair(session: ort.InferenceSession, noise: NoiseSpec, *, channels: int) -> GoldenPair:
    """A generated picture (edges, a ramp, a texture) with noise, and this file's answer."""
    rows, columns = np.mgrid[0:64, 0:64].astype(np.float32) / 63
    planes = (
        0.2 + 0.6 * columns,
        np.where((rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.08, 0.8, 0.3),
        0.5 + 0.3 * np.sin(24 * rows) * np.cos(16 * columns),
    )
    clean = np.stack(planes[:channels], axis=2).astype(np.float32)
    sigma = (noise.sigma_min + noise.sigma_max) / 2
    noisy = np.rint(noise.apply(clean, sigma=sigma, rng=keyed_rng(_SEAM_KEY)) * 255).clip(0, 255).astype(np.uint8)
    unit = noisy.astype(np.float32).transpose(2, 0, 1)[np.newaxis] / np.float32(255)
    return GoldenPair.of(noisy, _rounded(session, unit)[0].transpose(1, 2, 0).astype(np.uint8))


def _check_no_paths(model_bytes: bytes, run_path: Path) -> None:
    for path in (run_path.resolve(), Path(__file__).resolve().parent.parent):
        if str(path).encode() in model_bytes:
            raise ExportError(f"the file holds the path {path} of this machine; nothing was published")


def _target(store: Path, name: str, version: str | None) -> Path:
    existing = [int(p.name) for p in (store / name).glob("*") if p.name.isdigit()]
    target = store / name / (version or str(max(existing, default=0) + 1))
    if not target.name.isdigit():
        raise ExportError(f"version is {target.name!r}; it must be a whole number")
    if target.exists():
        raise ExportError(f"{target} exists; versions are never overwritten: choose another, or leave it out")
    return target


def _publish(target: Path, model_bytes: bytes, card: str) -> int:
    """Writes beside and renames, so that a service that watches the store never sees half a model."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / MODEL_FILE).write_bytes(model_bytes)
    (partial / CARD_FILE).write_text(card, encoding="utf-8")
    partial.rename(target)
    return len(model_bytes)
