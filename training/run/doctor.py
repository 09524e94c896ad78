"""What could go wrong with a run on this machine, and with a pack or a run that lies on it: found before it hurts.

Each finding says what is the case; where something is off, also what to do about it. Nothing is changed.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from tqdm import tqdm

from training.data.pack import MANIFEST_FILE, Pack
from training.errors import TrainingError
from training.run.checkpoint import read_checkpoint
from training.run.directory import RunDir
from training.run.log import read_log
from training.run.machine import core_count, core_quota, memory_limit_bytes
from training.run.trained import require_same_network

Level = Literal["OK", "WARNING", "PROBLEM"]

# Distributions, and whether training can do without.
_PACKAGES: Final = {
    "torch": True,
    "numpy": True,
    "pydantic": True,
    "pillow": True,
    "tifffile": True,
    "onnx": True,
    "onnxscript": True,
    "onnxruntime": True,
    "tensorboard": False,
    "matplotlib": False,
}
_INSTALL: Final = "pip install -e '.[training]'"
_CPU_INFO: Final = Path("/proc/cpuinfo")
_CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")
_BF16_FLAGS: Final = {"avx512_bf16", "amx_bf16", "bf16"}
_LITTLE_MEMORY_BYTES: Final = 2 * 10**9
_LITTLE_SHARED_BYTES: Final = 256 * 10**6
_LITTLE_DISK_BYTES: Final = 2 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``remedy`` is empty where all is well."""

    level: Level
    subject: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        """As printed."""
        return f"{self.level:8}{self.subject:12}{self.text}{f' -> {self.remedy}' if self.remedy else ''}"


def examine(paths: list[Path], folder: Path) -> Iterator[Finding]:
    """Findings about the machine, then about each path.

    Args:
        paths: packs and runs.
        folder: where runs are kept; its disk is looked at.
    """
    yield from examine_packages()
    yield from examine_processor()
    yield from examine_device()
    yield from examine_space(folder)
    for path in paths:
        if (path / MANIFEST_FILE).exists():
            yield from examine_pack(path)
        else:
            yield from examine_run(RunDir(path))


def examine_packages() -> Iterator[Finding]:
    yield Finding("OK", "python", f"{platform.python_version()} at {sys.executable}")
    for name, is_needed in _PACKAGES.items():
        try:
            yield Finding("OK", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("PROBLEM" if is_needed else "WARNING", name, "is not installed", _INSTALL)


def examine_processor(cpu_info: Path = _CPU_INFO) -> Iterator[Finding]:
    flags = _cpu_flags(cpu_info)
    if flags is None:
        yield Finding("OK", "processor", f"{platform.machine()}; this system does not list its flags")
    else:
        listed = ", ".join(flag for flag in _CPU_FLAGS if flag in flags) or "none that matter"
        if "avx2" not in flags and platform.machine() in {"x86_64", "AMD64"}:
            yield Finding("WARNING", "processor", listed, "without AVX2 everything is several times slower")
        elif not flags & _BF16_FLAGS and not torch.cuda.is_available():
            remedy = "bf16 is emulated here; train with --set optimiser.precision=fp32"
            yield Finding("WARNING", "processor", listed, remedy)
        else:
            yield Finding("OK", "processor", listed)
    cores, quota, threads = core_count(), core_quota(), torch.get_num_threads()
    text = (
        f"{cores:g} cores may be used (quota {'none' if quota is None else f'{quota:g}'}), torch has {threads} threads"
    )
    if threads < int(cores):
        remedy = "OMP_NUM_THREADS is set low; unset it, or say --threads"
        yield Finding("WARNING" if "OMP_NUM_THREADS" in os.environ else "OK", "threads", text, remedy)
    elif threads > max(1, int(cores)):
        yield Finding("OK", "threads", f"{text}; train limits itself to {max(1, int(cores))}")
    else:
        yield Finding("OK", "threads", text)


def examine_device() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        if built is None or not Path("/dev/nvidiactl").exists():
            yield Finding("OK", "cuda", "none; training runs on the processor")
        else:
            remedy = f"the driver does not suit CUDA {built}, or the device is not passed to this container"
            yield Finding("PROBLEM", "cuda", "there is a GPU that torch cannot use", remedy)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
        yield Finding("OK", "cuda", f"{index}: {properties.name}, {_size(properties.total_memory)}, {bf16}")


def examine_space(folder: Path) -> Iterator[Finding]:
    memory = memory_limit_bytes()
    if memory is not None:
        is_little = memory < _LITTLE_MEMORY_BYTES
        remedy = "use small batches and crops, and --workers 0" if is_little else ""
        yield Finding("WARNING" if is_little else "OK", "memory", f"{_size(memory)} may be used", remedy)
    shared = Path("/dev/shm")  # noqa: S108 -- its size is looked at; nothing is written
    if shared.exists():
        free = shutil.disk_usage(shared).free
        is_little = free < _LITTLE_SHARED_BYTES
        remedy = "workers hand batches over in it: say --workers 0, or docker run --shm-size 1g" if is_little else ""
        yield Finding("WARNING" if is_little else "OK", "shared", f"{_size(free)} free in {shared}", remedy)
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if not os.access(nearest, os.W_OK):
        yield Finding("PROBLEM", "disk", f"{nearest} cannot be written", "name another directory with --run")
        return
    is_little = free < _LITTLE_DISK_BYTES
    remedy = "a run keeps three checkpoints; free space, or name another directory" if is_little else ""
    yield Finding("WARNING" if is_little else "OK", "disk", f"{_size(free)} free at {nearest}", remedy)


def examine_pack(path: Path) -> Iterator[Finding]:
    """Compares every digest, which reads the whole pack."""
    try:
        pack = Pack(path)
        pack.verify()
    except (TrainingError, OSError) as error:
        yield Finding("PROBLEM", "pack", str(error), "prepare it again")
        return
    manifest = pack.manifest
    yield Finding(
        "OK",
        "pack",
        f"{path}: {len(pack.training_images())} images to train on, {len(pack.held_out_images())} held out, "
        f"{len(manifest.quarantined)} left out; all digests right",
    )
    if not pack.held_out_images():
        yield Finding("WARNING", "pack", "no image is held out", "nothing can select a checkpoint; prepare more images")


def examine_run(run_dir: RunDir) -> Iterator[Finding]:
    """Config, log and every checkpoint file."""
    try:
        config = run_dir.load_config()
    except TrainingError as error:
        yield Finding("PROBLEM", "run", str(error))
        return
    yield Finding("OK", "run", f"{run_dir.path}: {config.name}, {config.network.kind}")
    files = run_dir.checkpoints
    for path, is_needed in ((files.newest_path, True), (files.previous_path, False), (files.best_path, False)):
        if not path.exists():
            if is_needed:
                remedy = "the run has not come to its first checkpoint, or is broken off before it; begin again"
                if files.are_there():
                    remedy = "a kill while a checkpoint was saved leaves it so; --resume goes on from the one before"
                yield Finding("WARNING", "checkpoint", f"{path.name} is missing", remedy)
            continue
        try:
            checkpoint = read_checkpoint(path)
            require_same_network(checkpoint, config, run_dir.path)
        except (OSError, ValueError) as error:
            remedy = "--resume falls back to the previous one" if is_needed else "restore it, or delete it"
            yield Finding("PROBLEM", "checkpoint", f"{path.name} {error}", remedy)
        except TrainingError as error:
            yield Finding("PROBLEM", "checkpoint", f"{path.name}: {error}")
        else:
            yield Finding("OK", "checkpoint", f"{path.name}: step {checkpoint.step} of {config.optimiser.steps}, whole")
    records = read_log(run_dir.log_path)
    last = f"{len(records)} lines, the last of step {records[-1]['step']}" if records else "empty"
    yield Finding("OK", "log", last)


def _cpu_flags(path: Path) -> set[str] | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))), None)


def _size(count_bytes: int) -> str:
    return tqdm.format_sizeof(count_bytes, suffix="B", divisor=1000)
