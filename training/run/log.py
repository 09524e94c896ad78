"""What a run tells while it goes: JSON lines, TensorBoard, and a line or a bar for whoever watches.

``log.jsonl`` is the record that reports read: one object a line, each with ``step``, written at once. TensorBoard's
files hold the same figures for looking at. Nothing here decides when to log, or what.
"""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from denoised._files import write_whole
from training.errors import RunError

Record = Mapping[str, float | int]


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole records; a line that was cut off by a kill, or is damaged, is left out."""
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and _is_record(record):
            records.append(record)
    return records


class RunLog:
    """The log of a run, opened at a step: what lies after it is made, and logged, again."""

    def __init__(self, path: Path, tensorboard_path: Path, *, start: int) -> None:
        kept = [record for record in read_log(path) if record["step"] <= start]
        self._path = path
        with self._disk():
            write_whole(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._board = _board(tensorboard_path, start)
            self._file = path.open("a", encoding="utf-8")
        self._began_s = time.monotonic() - (float(kept[-1].get("elapsed_s", 0)) if kept else 0.0)

    def write(self, record: Record) -> None:
        """Adds the time since the run's beginning, pauses left out, and writes.

        Raises:
            RunError: the disk is full.
        """
        whole = {**record, "elapsed_s": round(time.monotonic() - self._began_s, 1)}
        with self._disk():
            self._file.write(json.dumps(whole, allow_nan=False) + "\n")
            self._file.flush()
            if self._board is not None:
                for name, value in record.items():
                    if name != "step":
                        group = "held_out" if name.startswith("held_out_") else "training"
                        self._board.add_scalar(f"{group}/{name.removeprefix('held_out_')}", value, record["step"])
                self._board.flush()

    def add_image(self, name: str, picture: Any, step: int) -> None:
        """Shows an (H, W, C) uint8 picture in TensorBoard. Raises RunError when the disk is full."""
        if self._board is not None:
            with self._disk():
                self._board.add_image(name, picture, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What could not be written was told by the write; closing tries it once more.
        with suppress(OSError):
            self._file.close()
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{error.filename or self._path} cannot be written: {error.strerror or error}; checkpoints are intact. "
                "Free space there, then continue with --resume"
            ) from error


class Watcher:
    """Shows where a run is: a bar with the time left on a terminal, plain lines anywhere else, or nothing."""

    def __init__(self, bar: "tqdm[Any] | None", *, total: int, start: int, is_silent: bool) -> None:
        self._bar = bar
        self._total = total
        self._start = start
        self._is_silent = is_silent
        self._began_s = time.monotonic()

    def advance(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, figures: str) -> None:
        """Figures of a step that was logged."""
        if self._bar is not None:
            self._bar.set_postfix_str(figures)
        elif not self._is_silent:
            left_s = (time.monotonic() - self._began_s) / max(1, step - self._start) * (self._total - step)
            print(f"step {step}/{self._total}, {figures}, {tqdm.format_interval(int(left_s))} left", flush=True)

    def note(self, text: str) -> None:
        """Something that the user should know."""
        if not self._is_silent:
            tqdm.write(f"note: {text}", file=sys.stderr)


@contextmanager
def watching(total: int, start: int, *, is_silent: bool) -> Iterator[Watcher]:
    """A watcher for the length of a run."""
    if is_silent or not sys.stderr.isatty():
        yield Watcher(None, total=total, start=start, is_silent=is_silent)
        return
    with tqdm(total=total, initial=start, unit="step", smoothing=0.05, dynamic_ncols=True) as bar:
        yield Watcher(bar, total=total, start=start, is_silent=False)


def _is_record(tree: object) -> bool:
    return (
        isinstance(tree, dict)
        and isinstance(tree.get("step"), int)
        and all(isinstance(value, int | float) and math.isfinite(value) for value in tree.values())
    )


def _board(path: Path, start: int) -> Any:
    """TensorBoard's writer, or None where the package is absent: the JSON lines hold everything."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path), purge_step=start + 1 if start else None)
