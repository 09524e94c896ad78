"""Opens ONNX Runtime's sessions: threads, memory, and the provider that was asked for or none.

Thread counts are always explicit, because ONNX Runtime's own default sees the host's cores and not the container's
quota, and threads never spin: 8 threads on 2 cores took 262 ms spinning and 61 ms not.

All sessions of the process share one arena that grows by what is asked for. Its high-water mark is that of the
lanes that run, whatever the number of models, and it stays flat after the largest batch has run on all lanes at once.
The figures are in docs/adr/0014.
"""

import functools
from pathlib import Path
from typing import Any, Final

import onnxruntime as ort

from denoised.contract import ContractError
from service.engine.graph import check_graph
from service.engine.options import EngineOptions, ModelRefused, Provider

# Its Linux builds report to their maker by default; a service sends nothing that it was not asked to send.
ort.disable_telemetry_events()

RUNTIME_VERSION: Final[str] = ort.__version__

_PROVIDER_NAMES: Final[dict[Provider, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_GPU_REMEDY: Final = (
    "look in the lines above for a driver, CUDA or cuDNN library that is missing, or set DENOISED_PROVIDER=cpu"
)
_ERRORS_ONLY: Final = 3
# OrtArenaCfg's number for kSameAsRequested; the other one, 0, grows by powers of two.
_SAME_AS_REQUESTED: Final = 1


def open_session(path: Path, model_bytes: bytes, options: EngineOptions, *, thread_count: int) -> ort.InferenceSession:
    """A session on the provider that ``options`` ask for, and on no other.

    Raises:
        ModelRefused: the provider isn't installed, can't start, can't run all of the network, or the bytes are no
            model, or one that holds what is not served.
    """
    wanted = _PROVIDER_NAMES[options.provider]
    installed = ort.get_available_providers()
    if wanted not in installed:
        raise ModelRefused(
            f"{path} shall run on {wanted}, but the onnxruntime that is installed has only: {', '.join(installed)}; "
            "install the one for GPUs (pip install 'denoised[service-gpu]', without onnxruntime beside it), "
            "or set DENOISED_PROVIDER=cpu"
        )
    try:
        check_graph(model_bytes)
    except ContractError as error:
        raise ModelRefused(f"{path}: {error}") from error
    _share_arena()
    try:
        session = ort.InferenceSession(
            model_bytes,
            _session_options(options.provider, thread_count),
            providers=[(wanted, _provider_options(options))],
            # Else a provider that fails, now or in a run, is replaced by the CPU with a line on stdout.
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime has its own exception classes, none of them public
        if options.provider == "cpu":
            raise ModelRefused(f"{path} is no model that ONNX Runtime can load: {error}") from error
        raise ModelRefused(f"{path} can't run on {wanted} alone: {error}; {_GPU_REMEDY}") from error
    in_use = session.get_providers()
    if in_use[0] != wanted:
        raise ModelRefused(f"{path} shall run on {wanted}, but ONNX Runtime uses {in_use[0]}; {_GPU_REMEDY}")
    return session


def _session_options(provider: Provider, thread_count: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Patterns are kept for each shape, and there are more than a hundred shapes.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    if provider != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _provider_options(options: EngineOptions) -> dict[str, Any]:
    if options.provider == "cpu":
        return {}
    return {
        "gpu_mem_limit": options.gpu_memory_bytes,
        "arena_extend_strategy": "kSameAsRequested",
        # EXHAUSTIVE, the default, tries all algorithms again for each shape: up to a second each.
        "cudnn_conv_algo_search": "HEURISTIC",
    }


@functools.cache
def _share_arena() -> None:
    """Registers the process's arena; once, because sessions keep the one that they found."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED})
    ort.create_and_register_allocator(memory, arena)
