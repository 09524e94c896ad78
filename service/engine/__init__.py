"""Runs networks: the only package that knows ONNX Runtime.

``options`` says how many lanes there are, ``sessions`` opens ONNX Runtime's sessions on the provider that was asked
for, ``network`` loads one model file, checks it and runs it.
"""

from service.engine.network import Engine, OnnxEngine, TimedBatch
from service.engine.options import WIDE_LANE, EngineOptions, ModelRefused, Provider, engine_options

__all__ = [
    "WIDE_LANE",
    "Engine",
    "EngineOptions",
    "ModelRefused",
    "OnnxEngine",
    "Provider",
    "TimedBatch",
    "engine_options",
]
