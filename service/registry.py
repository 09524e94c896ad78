"""The models that are loaded: found in the store, checked, warmed, chosen by name and version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from denoised.contract import ModelContract
from service.engine import EngineOptions, ModelRefused, OnnxEngine
from service.errors import ModelUnknown

MODEL_FILE: Final = "model.onnx"


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model."""

    contract: ModelContract
    digest: str
    engine: OnnxEngine

    @property
    def key(self) -> tuple[str, str]:
        return (self.contract.name, self.contract.version)


class Registry:
    """Models by name and version."""

    def __init__(self, models: Sequence[Model], *, default_name: str) -> None:
        """Raises ModelRefused when the default is not among them."""
        self._versions: dict[str, dict[str, Model]] = {}
        for model in models:
            self._versions.setdefault(model.contract.name, {})[model.contract.version] = model
        if default_name not in self._versions:
            raise ModelRefused(
                f"the default model {default_name!r} is not in the store, which holds: {', '.join(self._versions)}; "
                "set DENOISED_DEFAULT_MODEL to one of these"
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


def load_models(store: Path, options: EngineOptions) -> list[Model]:
    """Loads and checks every ``<store>/<name>/<version>/model.onnx``.

    Raises:
        ModelRefused: the store is empty, or a file in it can't be served.
    """
    paths = sorted(store.glob(f"*/*/{MODEL_FILE}"))
    if not paths:
        raise ModelRefused(
            f"the model store {store} holds no <name>/<version>/{MODEL_FILE}; "
            "set DENOISED_MODELS_DIR to one that does, or fill it with: python -m training export RUN --to DIR"
        )
    return [_load(path, options) for path in paths]


def _load(path: Path, options: EngineOptions) -> Model:
    engine = OnnxEngine(path, options)
    place = (path.parent.parent.name, path.parent.name)
    model = Model(engine.contract, engine.digest, engine)
    if model.key != place:
        raise ModelRefused(
            f"{path} says that it is {'/'.join(model.key)}; its place in the store must be <name>/<version> alike"
        )
    engine.check()
    return model


def warm_up(model: Model, lane: int) -> None:
    """Runs every unit shape once on a lane, so that no request pays for first-time allocation."""
    for height_px, width_px in model.engine.unit_shapes():
        model.engine.run(np.zeros((1, model.contract.channels, height_px, width_px), np.float32), lane=lane)
