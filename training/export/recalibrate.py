"""Measures a published model again and publishes it as a new version: the same network with another calibration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnxruntime as ort

from denoised.contract import DECODER_FILE, ENCODER_FILE, INT8_MODEL_FILE, MODEL_FILE, ContractError, ModelContract
from denoised.seal import check_seal
from training.data.pack import Pack
from training.errors import DataError, ExportError
from training.export import onnx_file
from training.export.calibrate import DEFAULT_CROP_COUNT, calibrate
from training.export.store import CARD_FILE, INT8_CARD_FILE, publish, target_of
from training.run.published import model_path_of


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What was published, and what it says."""

    path: Path
    contract: ModelContract


def recalibrate(
    source: Path,
    pack: Pack,
    *,
    store: Path | None = None,
    version: str | None = None,
    crop_count: int = DEFAULT_CROP_COUNT,
    seed: int = 0,
    of_all: bool = False,
    on_crop: Callable[[], object] = lambda: None,
) -> Recalibrated:
    """Publishes a model with quantiles that are measured on a pack's images; its graphs stay byte for byte.

    The reconstruction's scale stays too, so that energies of both versions can be compared.

    Args:
        source: directory of a published version, or ``model.onnx`` in it; encoder, decoder and cards come along,
            and the int8 variant, which is measured by itself.
        pack: its held-out images are measured.
        store: where the new version goes; left out, where the model lies.
        version: a whole number as text; left out, the one after the newest.
        crop_count, seed, of_all, on_crop: as for :func:`calibrate`.

    Raises:
        ExportError: the file is no sealed model with a contract, lies in no store, or the version exists.
        DataError: the pack holds other kinds of images than the model takes.
    """
    model_path = model_path_of(source)
    shared = {path.name: path.read_bytes() for path in _files(model_path)}
    session, contract = _opened(model_path, shared[MODEL_FILE])
    target = target_of(_store_of(model_path, contract) if store is None else store, contract.name, version)
    _require_fitting(pack, contract)

    def renewed(session: ort.InferenceSession, contract: ModelContract) -> ModelContract:
        before = contract.calibration
        calibration = calibrate(
            session,
            pack,
            contract.noise,
            # These may be other images than those of training; what noise they have is for them to say.
            supervision=pack.manifest.supervision,
            size_multiple_px=contract.size_multiple_px,
            fixed_side_px=contract.fixed_side_px,
            likelihood=before.likelihood,
            reconstruction_sigma=None if before.is_empty else before.reconstruction_sigma,
            crop_count=crop_count,
            seed=seed,
            of_all=of_all,
            on_crop=on_crop,
        )
        return replace(contract, version=target.name, calibration=calibration)

    float_contract = renewed(session, contract)
    contracts = dict.fromkeys(shared, float_contract)
    contents = dict(shared)
    cards = {CARD_FILE: contract}
    int8_path = model_path.with_name(INT8_MODEL_FILE)
    if int8_path.is_file():
        contents[INT8_MODEL_FILE] = int8_path.read_bytes()
        int8_session, int8_contract = _opened(int8_path, contents[INT8_MODEL_FILE])
        contracts[INT8_MODEL_FILE] = renewed(int8_session, int8_contract)
        cards[INT8_CARD_FILE] = int8_contract
    written = {
        name: onnx_file.with_metadata(content, contracts[name].to_metadata()) for name, content in contents.items()
    }
    texts = {
        name: _card(model_path.with_name(name), before, target.name, pack, crop_count).encode()
        for name, before in cards.items()
    }
    publish(target, {**written, **texts}, check=lambda folder: _check(folder, contracts))
    return Recalibrated(target / MODEL_FILE, float_contract)


def has_int8(source: Path) -> bool:
    """Whether an int8 variant lies beside the model."""
    return model_path_of(source).with_name(INT8_MODEL_FILE).is_file()


def _files(model_path: Path) -> list[Path]:
    if model_path.name != MODEL_FILE or not model_path.is_file():
        raise ExportError(f"{model_path} is no {MODEL_FILE}; name it, or its version's directory")
    beside = (model_path.with_name(name) for name in (ENCODER_FILE, DECODER_FILE))
    return [model_path, *(path for path in beside if path.is_file())]


def _opened(path: Path, model_bytes: bytes) -> tuple[ort.InferenceSession, ModelContract]:
    try:
        check_seal(model_bytes)
        session = onnx_file.session(model_bytes)
        return session, ModelContract.from_metadata(session.get_modelmeta().custom_metadata_map)
    except ContractError as error:
        raise ExportError(f"{path}: {error}") from error


def _store_of(model_path: Path, contract: ModelContract) -> Path:
    folder = model_path.resolve().parent
    if (folder.parent.name, folder.name) != (contract.name, contract.version):
        raise ExportError(
            f"{model_path} does not lie in {contract.name}/{contract.version}/; name the store for the new version "
            "with --to"
        )
    return folder.parent.parent


def _require_fitting(pack: Pack, contract: ModelContract) -> None:
    manifest = pack.manifest
    if manifest.channels != contract.channels:
        raise DataError(f"the pack has {manifest.channels} channels, {contract.name} takes {contract.channels}")
    if manifest.levels != contract.levels:
        raise DataError(
            f"the pack's levels are {manifest.levels}, those of {contract.name} are {contract.levels}; prepare the "
            f"images again with --black {contract.levels.black:g} --white {contract.levels.white:g}"
        )


def _card(path: Path, before: ModelContract, version: str, pack: Pack, crop_count: int) -> str:
    """The old card under the new version, with a note."""
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {before.name}, version {before.version}\n"
    text = text.replace(f"version {before.version}", f"version {version}", 1)
    return (
        f"{text}\nThe network of version {before.version}, calibrated again on {crop_count} crops of the images with "
        f"data digest `{pack.manifest.digest[:16]}`.\n"
    )


def _check(folder: Path, contracts: Mapping[str, ModelContract]) -> None:
    for name, contract in contracts.items():
        if _opened(folder / name, (folder / name).read_bytes())[1] != contract:
            raise ExportError(f"{name} carries another contract than the one that was measured")
