"""The models that are loaded: found in the store, checked, warmed, chosen by name and version."""

import resource
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from denoised.contract import (
    DECODER_FILE,
    ENCODER_FILE,
    INT8_MODEL_FILE,
    MODEL_FILE,
    MODEL_FILES,
    ModelContract,
)
from service.engine import EngineOptions, Halves, ModelRefused, OnnxEngine, TimedBatch, load_halves
from service.errors import ModelUnknown
from service.settings import PrecisionChoice


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model.

    Attributes:
        contract: the file's description of itself.
        digest: SHA-256 of the file.
        engine: runs it.
        resident_bytes: by how much the process grew when this model was loaded and warmed: its weights, and what the
            arena that all models share had to grow for it. Models' figures add up; they depend on the order.
        warm_batch: a full batch and how long it took; None of a model that was not warmed.
        halves: encoder and decoder of a model that encodes or decodes; None of others.
    """

    contract: ModelContract
    digest: str
    engine: OnnxEngine
    resident_bytes: int = 0
    warm_batch: TimedBatch | None = None
    halves: Halves | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (self.contract.name, self.contract.version)

    @property
    def encoder_key(self) -> tuple[str, str, str]:
        """What the batcher and the cost model know its encoder by."""
        return (*self.key, ENCODER_FILE)

    @property
    def decoder_key(self) -> tuple[str, str, str]:
        """As ``encoder_key``."""
        return (*self.key, DECODER_FILE)


class Registry:
    """Models by name and version."""

    def __init__(self, models: Sequence[Model], *, default_name: str) -> None:
        """Raises ModelRefused when the default is not among them."""
        self._versions: dict[str, dict[str, Model]] = {}
        for model in models:
            self._versions.setdefault(model.contract.name, {})[model.contract.version] = model
        if default_name not in self._versions:
            raise ModelRefused(
                f"the default model {default_name!r} is not loaded; loaded: {', '.join(self._versions)}; "
                "set DENOISED_DEFAULT_MODEL to one of these, or let DENOISED_MODEL_NAMES match it"
            )
        self.default_name = default_name

    def all(self) -> list[Model]:
        """By name, then by version, oldest first."""
        return [
            versions[version] for _, versions in sorted(self._versions.items()) for version in sorted(versions, key=int)
        ]

    def get(self, name: str, version: str) -> Model:
        """The model; an empty name means the default one, an empty version the newest.

        Raises:
            ModelUnknown: it is not loaded.
        """
        name = name or self.default_name
        versions = self._versions.get(name)
        if versions is None:
            raise ModelUnknown(f"model {name!r} is not loaded; loaded: {', '.join(sorted(self._versions))}")
        model = versions.get(version or max(versions, key=int))
        if model is None:
            raise ModelUnknown(
                f"model {name!r} has no version {version!r} loaded; loaded: {', '.join(sorted(versions, key=int))}"
            )
        return model


def load_models(
    store: Path, options: EngineOptions, *, precision: PrecisionChoice = "fp32", name_pattern: str = "*"
) -> Generator[Model]:
    """The file of that precision in every ``<store>/<name>/<version>/``, loaded, checked and warmed as it is asked for.

    One step loads one model, so whoever asks may do so off the event loop, and stops by asking no more.

    Args:
        store: the folder.
        options: lanes, threads and provider.
        precision: of the files. What is present decides, never the machine: replicas of one store are alike.
        name_pattern: names to load, as a shell would match them.

    Raises:
        ModelRefused: there is nothing to load, or a file can't be served.
    """
    folders = sorted({path.parent for file_name in MODEL_FILES.values() for path in store.glob(f"*/*/{file_name}")})
    folders = [folder for folder in folders if fnmatchcase(folder.parent.name, name_pattern)]
    if not folders:
        name = "<name>" if name_pattern == "*" else name_pattern
        raise ModelRefused(
            f"the model store {store} holds no {name}/<version>/{MODEL_FILE}; "
            "set DENOISED_MODELS_DIR to one that does, or fill it with: python -m training export RUN --to DIR"
        )
    paths = [_file_in(folder, precision) for folder in folders]
    _require_present(paths, precision)
    for path in paths:
        yield _load(path, options)


def _file_in(folder: Path, precision: PrecisionChoice) -> Path:
    if precision == "int8-where-present":
        precision = "int8" if (folder / INT8_MODEL_FILE).is_file() else "fp32"
    return folder / MODEL_FILES[precision]


def _require_present(paths: Sequence[Path], precision: PrecisionChoice) -> None:
    """Raises ModelRefused, which names all that are missing, before anything is loaded."""
    missing = [path for path in paths if not path.is_file()]
    if not missing:
        return
    models = ", ".join(f"{path.parent.parent.name}/{path.parent.name}" for path in missing)
    remedy = (
        "make it with: python -m training quantize; or set DENOISED_PRECISION to int8-where-present, which serves the "
        "others in fp32, or to fp32"
        if precision == "int8"
        else "put it there, or remove the version"
    )
    raise ModelRefused(f"DENOISED_PRECISION is {precision}, and {models} has no {missing[0].name}: {remedy}")


def _load(path: Path, options: EngineOptions) -> Model:
    before_bytes = _resident_bytes()
    engine = OnnxEngine(path, options)
    key = (engine.contract.name, engine.contract.version)
    if key != (path.parent.parent.name, path.parent.name):
        raise ModelRefused(
            f"{path} says that it is {'/'.join(key)}; its place in the store must be <name>/<version> alike"
        )
    if path.name != (wanted := MODEL_FILES[engine.contract.precision]):
        raise ModelRefused(f"{path} says that it is {engine.contract.precision}; as such its name must be {wanted}")
    engine.check()
    warm_batch = engine.warm_up()
    has_halves = bool({"encode", "decode"} & set(engine.contract.capabilities))
    halves = load_halves(path.parent, engine, options) if has_halves else None
    return Model(engine.contract, engine.digest, engine, max(0, _resident_bytes() - before_bytes), warm_batch, halves)


def _resident_bytes() -> int:
    """Of this process, now; 0 where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()
