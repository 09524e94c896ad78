"""Runs networks: the only package that knows ONNX Runtime.

``options`` says how many lanes there are, ``sessions`` opens ONNX Runtime's sessions on the provider that was asked
for, ``network`` loads one model file, checks it and runs it, ``halves`` does so with the encoder and decoder beside it.
"""

from service.engine.halves import Half, Halves, load_halves
from service.engine.network import Engine, OnnxEngine, TimedBatch
from service.engine.options import WIDE_LANE, EngineOptions, ModelRefused, Provider, engine_options
from service.engine.sessions import RUNTIME_VERSION

__all__ = [
    "RUNTIME_VERSION",
    "WIDE_LANE",
    "Engine",
    "EngineOptions",
    "Half",
    "Halves",
    "ModelRefused",
    "OnnxEngine",
    "Provider",
    "TimedBatch",
    "engine_options",
    "load_halves",
]
