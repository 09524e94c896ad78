"""The models that are loaded: found in the store, checked, warmed, chosen by name, version and label."""

import resource
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Final

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


@dataclass(frozen=True, slots=True, weakref_slot=True)
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


@dataclass(frozen=True, slots=True)
class Labels:
    """What requests without a version get of one model.

    Attributes:
        stable: the version; None is the newest.
        canary: one that some get instead; None is none.
        canary_weight: their share, 0..1.
    """

    stable: str | None = None
    canary: str | None = None
    canary_weight: float = 0.0


STABLE: Final = "stable"
CANARY: Final = "canary"
_NO_LABELS: Final = Labels()
Key = tuple[str, str]


@dataclass(slots=True)
class _Choice:
    """What requests without a version get; ``owed`` is what the canary is behind its share, in requests."""

    stable: Model
    canary: Model | None
    weight: float
    owed: float = 0.0


class Registry:
    """Models by name and version, and what is meant where no version is given. A change makes another registry."""

    def __init__(
        self,
        models: Sequence[Model],
        *,
        default_name: str,
        labels: Mapping[str, Labels] = MappingProxyType({}),
        withdrawn: Collection[Key] = (),
    ) -> None:
        """
        Args:
            models: at least one of the default name.
            default_name: of requests that name none.
            labels: by name. One that names a version which is not loaded, or withdrawn, is as if it were not there.
            withdrawn: versions that are only served to those who ask for them by number.

        Raises:
            ModelRefused: the default is not among the models.
        """
        self._versions: dict[str, dict[str, Model]] = {}
        for model in models:
            self._versions.setdefault(model.contract.name, {})[model.contract.version] = model
        if default_name not in self._versions:
            raise ModelRefused(
                f"the default model {default_name!r} is not loaded; loaded: {', '.join(self._versions)}; "
                "set DENOISED_DEFAULT_MODEL to one of these, or let DENOISED_MODEL_NAMES match it"
            )
        self.default_name = default_name
        self._choices = {
            name: _choice(versions, labels.get(name, _NO_LABELS), {v for n, v in withdrawn if n == name})
            for name, versions in self._versions.items()
        }

    def all(self) -> list[Model]:
        """By name, then by version, oldest first."""
        return [
            versions[version] for _, versions in sorted(self._versions.items()) for version in sorted(versions, key=int)
        ]

    def get(self, name: str, version: str) -> Model:
        """The model; an empty name means the default one, an empty version the stable one, a label what has it.

        Raises:
            ModelUnknown: it is not loaded.
        """
        name = name or self.default_name
        versions = self._versions.get(name)
        if versions is None:
            raise ModelUnknown(f"model {name!r} is not loaded; loaded: {', '.join(sorted(self._versions))}")
        choice = self._choices[name]
        labelled = {"": choice.stable, STABLE: choice.stable, CANARY: choice.canary}
        model = labelled.get(version) or versions.get(version)
        if model is None:
            raise ModelUnknown(
                f"model {name!r} has no version {version!r} loaded; loaded: {', '.join(sorted(versions, key=int))}"
            )
        return model

    def draw(self, name: str, version: str) -> tuple[Model, bool]:
        """The model, and whether a request alike may get another one: without a version the canary has its share.

        Raises:
            ModelUnknown: it is not loaded.
        """
        model = self.get(name, version)
        choice = self._choices[model.contract.name]
        if version or choice.canary is None:
            return model, False
        choice.owed += choice.weight
        if choice.owed < 1.0:
            return model, True
        choice.owed -= 1.0
        return choice.canary, True

    def shares(self) -> Mapping[Key, float]:
        """What share of the requests without a version each model gets."""
        shares = {model.key: 0.0 for model in self.all()}
        for choice in self._choices.values():
            shares[choice.stable.key] = 1.0 - choice.weight
            if choice.canary is not None:
                shares[choice.canary.key] = choice.weight
        return shares


def _choice(versions: Mapping[str, Model], labels: Labels, withdrawn: Collection[str]) -> _Choice:
    eligible = {version: model for version, model in versions.items() if version not in withdrawn} or versions
    stable = eligible.get(labels.stable or "") or eligible[max(eligible, key=int)]
    canary = eligible.get(labels.canary or "")
    if canary is None or canary is stable:
        return _Choice(stable, None, 0.0)
    return _Choice(stable, canary, labels.canary_weight)


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
    folders = [folder for folder in version_folders(store) if fnmatchcase(folder.parent.name, name_pattern)]
    if not folders:
        name = "<name>" if name_pattern == "*" else name_pattern
        raise ModelRefused(
            f"the model store {store} holds no {name}/<version>/{MODEL_FILE}; "
            "set DENOISED_MODELS_DIR to one that does, or fill it with: python -m training export RUN --to DIR"
        )
    paths = [file_in(folder, precision) for folder in folders]
    _require_present(paths, precision)
    for path in paths:
        yield load_model(path, options)


def version_folders(store: Path) -> list[Path]:
    """Every ``<store>/<name>/<version>/`` that holds a model, in order. What is being published has a hidden name."""
    return sorted(
        {
            path.parent
            for file_name in MODEL_FILES.values()
            for path in store.glob(f"*/*/{file_name}")
            if not any(part.startswith(".") for part in (path.parent.name, path.parent.parent.name))
        }
    )


def file_in(folder: Path, precision: PrecisionChoice) -> Path:
    """The file of a version's folder that is served; it need not be there."""
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


def load_model(path: Path, options: EngineOptions) -> Model:
    """One file of the store, checked and warmed.

    Raises:
        ModelRefused: it can't be served.
    """
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
