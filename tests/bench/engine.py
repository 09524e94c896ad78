"""How ONNX Runtime is called, shared and given memory: the measurements behind ADR 14.

Ways are compared within one process by turns and by the CPU time of the threads, because machines drift; memory is
measured in a process of its own for each way. Prints Markdown tables. Needs ``onnx``.
"""

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from denoised.contract import IMAGE_OUTPUT_NAME, INPUT_NAME
from service.cpu import usable_core_count
from tests.bench.networks import Networks

_NETWORKS: Mapping[str, tuple[Callable[[], bytes], int]] = {
    "S": (Networks().s.path.read_bytes, 1),
    "M": (Networks().m.path.read_bytes, 3),
}
_EDGES_PX = (64, 96, 128, 192, 256)
_BATCH_PIXELS = 256 * 256
_ROUNDS = 9


def _session(
    network: str, *, threads: int = 1, arena: bool = True, pattern: bool = False, env: bool = False
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = pattern
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if env:
        options.add_session_config_entry("session.use_env_allocators", "1")
    return ort.InferenceSession(_NETWORKS[network][0](), options, providers=["CPUExecutionProvider"])


def _share_arena(*, same_as_requested: bool) -> None:
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": int(same_as_requested)}))


def _units(network: str, count: int, height_px: int, width_px: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, _NETWORKS[network][1], height_px, width_px), np.float32)


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def calls() -> None:
    """Into ONNX Runtime and out again, by one thread."""
    names = ("session.run", "bound once", "bound each time", "OrtValues")
    _table("CPU microseconds of one call, least of the rounds", ("batch", *names), map(_calls_row, _CALLS))


_CALLS = (("S", 1, 28, 500), ("S", 1, 64, 120), ("S", 16, 28, 40), ("M", 1, 64, 10), ("M", 1, 256, 1))


def _calls_row(case: tuple[str, int, int, int]) -> list[str]:
    network, count, side_px, repeat_count = case
    session = _session(network)
    units = _units(network, count, side_px, side_px)
    answer = np.empty_like(units)

    def bound() -> ort.IOBinding:
        binding = session.io_binding()
        binding.bind_input(INPUT_NAME, "cpu", 0, np.float32, units.shape, units.ctypes.data)
        binding.bind_output(IMAGE_OUTPUT_NAME, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
        return binding

    once = bound()
    value = ort.OrtValue.ortvalue_from_numpy(units)

    def with_values() -> NDArray[np.float32]:
        answers = session.run_with_ort_values([IMAGE_OUTPUT_NAME], {INPUT_NAME: value})
        return np.asarray(answers[0].numpy())

    ways: tuple[Callable[[], object], ...] = (
        lambda: session.run([IMAGE_OUTPUT_NAME], {INPUT_NAME: units}),
        lambda: session.run_with_iobinding(once),
        lambda: session.run_with_iobinding(bound()),
        with_values,
    )
    seconds = [[_thread_s(way, repeat_count) / repeat_count for way in ways] for _ in range(_ROUNDS)]
    least = (f"{min(of_way) * 1e6:.1f}" for of_way in zip(*seconds, strict=True))
    return [f"{network}, {count} of {side_px} x {side_px}", *least]


def _thread_s(work: Callable[[], object], repeat_count: int) -> float:
    start_s = time.thread_time()
    for _ in range(repeat_count):
        work()
    return time.thread_time() - start_s


def sharing() -> None:
    """Two lanes at once: a session and an arena each, or shared ones; the ratio is to the first, round by round."""
    _share_arena(same_as_requested=True)
    ways = ("own sessions, own arenas", "one session, its arena", "one session, the process's arena")
    rows = []
    for network, count, side_px, repeat_count in (
        ("S", 1, 28, 1500),
        ("S", 8, 28, 250),
        ("S", 1, 64, 400),
        ("M", 1, 256, 4),
    ):
        first, second, shared = _session(network), _session(network), _session(network, env=True)
        units = _units(network, count, side_px, side_px)
        pairs = ((first, second), (first, first), (shared, shared))
        rounds = [[_two_lanes(pair, units, repeat_count) for pair in pairs] for _ in range(_ROUNDS)]
        for index, way in enumerate(ways):
            rate = statistics.median(each[index][0] for each in rounds)
            rate_ratio = statistics.median(each[index][0] / each[0][0] for each in rounds)
            cpu_ratio = statistics.median(each[index][1] / each[0][1] for each in rounds)
            rows.append(
                (f"{network}, {count} of {side_px}", way, f"{rate:.0f}", f"{rate_ratio:.3f}", f"{cpu_ratio:.3f}")
            )
    _table("Two lanes at once", ("batch", "sessions", "images/s", "ratio", "CPU ratio"), rows)


def _two_lanes(
    sessions: Sequence[ort.InferenceSession], units: NDArray[np.float32], repeat_count: int
) -> tuple[float, float]:
    """(images a second, CPU seconds)."""
    together = threading.Barrier(len(sessions) + 1)
    cpu_s: list[float] = []

    def lane(session: ort.InferenceSession) -> None:
        session.run(None, {INPUT_NAME: units})
        together.wait()
        cpu_s.append(_thread_s(lambda: session.run(None, {INPUT_NAME: units}), repeat_count))

    threads = [threading.Thread(target=lane, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    together.wait()
    start_s = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(sessions) * repeat_count * len(units) / (time.perf_counter() - start_s), sum(cpu_s)


_MEMORY = ("default", "pattern", "two sessions", "env", "env same", "env same, wide", "no arena", "shrink")


def memory() -> None:
    """Resident memory with M on two lanes: after warm-up, after 16 batches alike, and after 50 of mixed shapes."""
    rows = []
    for way in _MEMORY:
        # A process for each way: what one left behind must not count for the next.
        child = subprocess.run([sys.executable, __file__, "--child", way], check=True, capture_output=True, text=True)
        rows.append((way, *child.stdout.split()))
    _table("MB resident", ("arena", "loaded", "warm", "16 alike", "mixed", "mixed / warm", "CPU s"), rows)


def memory_child(way: str) -> None:
    if way.startswith("env"):
        _share_arena(same_as_requested="same" in way)
    run_options = ort.RunOptions()
    if way == "shrink":
        run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def session(threads: int = 1) -> ort.InferenceSession:
        return _session(
            "M", threads=threads, arena=way != "no arena", pattern=way == "pattern", env=way.startswith("env")
        )

    first = session()
    lanes = (first, session() if way == "two sessions" else first)
    wide = session(2) if "wide" in way else None
    loaded = _resident_mb()

    def both(batches: Sequence[Sequence[tuple[int, int, int]]]) -> None:
        def lane(session: ort.InferenceSession, mine: Sequence[tuple[int, int, int]]) -> None:
            for count, height_px, width_px in mine:
                session.run(None, {INPUT_NAME: _units("M", count, height_px, width_px)}, run_options)

        threads = [threading.Thread(target=lane, args=pair) for pair in zip(lanes, batches, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    both([[(1, 256, 256)]] * 2)
    if wide is not None:
        wide.run(None, {INPUT_NAME: _units("M", 1, 256, 256)})
    warm = _resident_mb()
    start_s = time.process_time()
    both([[(1, 256, 256)] * 8] * 2)
    alike = _resident_mb()
    both([_mixed(seed) for seed in (1, 2)])
    mixed = _resident_mb()
    seconds = time.process_time() - start_s
    print(f"{loaded:.0f} {warm:.0f} {alike:.0f} {mixed:.0f} {mixed / warm:.2f} {seconds:.2f}")


def _mixed(seed: int) -> list[tuple[int, int, int]]:
    chance = np.random.default_rng(seed)
    sides = chance.choice(_EDGES_PX, (25, 2)).tolist()
    return [(int(chance.integers(1, _BATCH_PIXELS // (h * w) + 1)), h, w) for h, w in sides]


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6


def wide() -> None:
    """One unit alone: on one thread, and on all cores."""
    cores = usable_core_count()
    rows = []
    for network, side_px, repeat_count in (("S", 28, 500), ("S", 64, 120), ("M", 64, 12), ("M", 256, 1)):
        units = _units(network, 1, side_px, side_px)
        sessions = [_session(network, threads=threads) for threads in (1, cores)]
        rounds = [[_process_s(session, units, repeat_count) for session in sessions] for _ in range(_ROUNDS)]
        wall = [statistics.median(each[way][0] for each in rounds) for way in (0, 1)]
        cpu_ratio = statistics.median(each[1][1] / each[0][1] for each in rounds)
        rows.append(
            (f"{network}, {side_px}", *(f"{s * 1e3:.3f}" for s in wall), f"{wall[0] / wall[1]:.2f}", f"{cpu_ratio:.2f}")
        )
    _table(f"One unit alone, {cores} cores", ("unit", "ms, 1 thread", "ms, all", "faster", "CPU ratio"), rows)


def _process_s(session: ort.InferenceSession, units: NDArray[np.float32], repeat_count: int) -> tuple[float, float]:
    session.run(None, {INPUT_NAME: units})
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(repeat_count):
        session.run(None, {INPUT_NAME: units})
    return (time.perf_counter() - start_s) / repeat_count, (time.process_time() - start_cpu_s) / repeat_count


def first_runs() -> None:
    """After the largest unit has run once, what a shape's first run costs beside its later ones."""
    _share_arena(same_as_requested=True)
    rows = []
    for network in _NETWORKS:
        session = _session(network, env=True)
        session.run(None, {INPUT_NAME: _units(network, 1, _EDGES_PX[-1], _EDGES_PX[-1])})
        ratios = []
        for shape in itertools.product(_EDGES_PX, _EDGES_PX):
            run = functools.partial(session.run, None, {INPUT_NAME: _units(network, 1, *shape)})
            first, *later = (_thread_s(run, 1) for _ in range(8))
            ratios.append(first / statistics.median(later))
        rows.append((network, len(ratios), f"{statistics.median(ratios):.3f}", f"{max(ratios):.2f}"))
    _table("First run / later runs, by shape", ("network", "shapes", "median", "largest"), rows)


_PARTS: Mapping[str, Callable[[], None]] = {
    "calls": calls,
    "sharing": sharing,
    "memory": memory,
    "wide": wide,
    "first-runs": first_runs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*_PARTS, []], help="what to measure (default: all)")
    parser.add_argument("--child", choices=_MEMORY, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        memory_child(arguments.child)
        return
    for name in arguments.parts or _PARTS:
        _PARTS[name]()


if __name__ == "__main__":
    main()
