"""Follows the store while the service runs: versions that come are loaded beside those that serve, and take over.

In this order: found, read and checked, warmed, compared, swapped in one step; the old one serves what it has begun, and
is closed when nothing uses it any more. Whatever fails before the swap leaves all as it was.

A version never changes: what is published under a number is that for ever, and a file that is replaced is not read.
"""

import asyncio
import gc
import tomllib
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf, isfinite
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from service.engine import EngineOptions, ModelRefused
from service.metrics import Metrics, Reloaded, ReloadOutcome
from service.registry import Key, Labels, Model, Registry, file_in, load_model, version_folders
from service.settings import PrecisionChoice

_log = structlog.get_logger()

LABELS_FILE: Final = "labels.toml"
# A network takes this many times its file: as read, and as ONNX Runtime keeps it for its lanes and for the wide one.
# What it computes in is the arena's, which all share.
_MEMORY_FACTOR: Final = 3
_LONGEST_LOAD_S: Final = 600.0
# A version that seems too slow is measured again and again before it is refused: one that shares the cores with what is
# served can look four times as slow as it is, and its refusal stands for good.
_LEAST_PACE_RUNS: Final = 3
_MOST_PACE_RUNS: Final = 15
_LARGEST_LABELS_BYTES: Final = 4096


class RollbackRefused(Exception):
    """There is nothing to go back to; the message says why."""


@dataclass(frozen=True, slots=True)
class ReloadOptions:
    """What a version that comes must keep.

    Attributes:
        memory_bytes: of all networks together.
        slower_factor: so many times as long as the one that is stable, and it is refused.
        poll_s: how often to look; 0 for never.
    """

    memory_bytes: int
    slower_factor: float
    poll_s: float


class FileState(NamedTuple):
    """By which a file is known to be the same."""

    inode: int
    modified_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in the store; ``problems`` are of names whose labels are wrong."""

    files: Mapping[Key, tuple[Path, FileState]]
    labels: Mapping[str, Labels]
    problems: Mapping[str, str]


class Reloader:
    """The registry that is served, and what changes it. All but the loading happens on the event loop.

    Attributes:
        registry: what is served now.
    """

    registry: Registry

    def __init__(
        self,
        store: Path,
        *,
        default_name: str,
        precision: PrecisionChoice,
        name_pattern: str = "*",
        engine_options: EngineOptions,
        options: ReloadOptions,
        add: Callable[[Model], None],
        remove: Callable[[Key], None],
        swapped: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """
        Args:
            name_pattern: names that are followed, as a shell would match them.
            add: makes a model ready to be asked for; called before it is.
            remove: undoes that; called when nothing uses it any more.
            swapped: told that :attr:`registry` is another one.
        """
        self._store = store
        self._default_name = default_name
        self._precision: PrecisionChoice = precision
        self._name_pattern = name_pattern
        self._engine_options = engine_options
        self._options = options
        self._add = add
        self._remove = remove
        self._swapped = swapped
        self._metrics = metrics
        self._models: dict[Key, Model] = {}
        self._labels: Mapping[str, Labels] = {}
        self._withdrawn: set[Key] = set()
        self._refused: dict[Key, FileState] = {}
        self._problems: Mapping[str, str] = {}
        # Memory of versions that left and are still used by what they had begun.
        self._leaving: dict[Key, int] = {}
        self._lock = asyncio.Lock()

    def begin(self, models: list[Model]) -> None:
        """Serves these, which were added already.

        Raises:
            ModelRefused: the default is not among them, or labels are wrong.
        """
        found = find(self._store, self._precision, self._name_pattern)
        if found.problems:
            raise ModelRefused("; ".join(found.problems.values()))
        self._serve({model.key: model for model in models}, found.labels)
        for model in models:
            self._watch_end_of(model)

    async def watch(self) -> None:
        """Looks now and then, for ever; returns at once when that is turned off."""
        while self._options.poll_s:
            await asyncio.sleep(self._options.poll_s)
            await self.look()

    async def look(self) -> None:
        """Takes over what has changed in the store, as far as it is right."""
        async with self._lock:
            if self._leaving:
                # Errors hold on to what they came from in cycles, and so to models that nothing else uses.
                gc.collect()
            found = await asyncio.to_thread(find, self._store, self._precision, self._name_pattern)
            self._complain(found.problems)
            # Labels that are wrong change nothing.
            labels = dict(found.labels) | {
                name: self._labels[name] for name in found.problems.keys() & self._labels.keys()
            }
            models = dict(self._models)
            for key, (path, state) in found.files.items():
                if key not in models and key not in self._leaving and self._refused.get(key) != state:
                    model = await self._loaded(key, path, state)
                    if model is not None:
                        models[key] = model
            gone = [key for key in models if key not in found.files]
            if gone and not any(name == self._default_name for name, _ in found.files.keys() & models.keys()):
                # An empty mount is more likely than the wish to serve nothing.
                gone = [key for key in gone if key[0] != self._default_name]
            for key in gone:
                del models[key]
            if models != self._models or labels != self._labels:
                self._serve(models, labels)

    def rollback(self, name: str) -> Model:
        """Withdraws the stable version of a model until the service starts anew, and the next older one takes over.

        Returns:
            What is stable now. A newer version that is published takes over in its turn.

        Raises:
            RollbackRefused: no such model, or no other version of it.
        """
        name = name or self._default_name
        versions = [key for key in self._models if key[0] == name and key not in self._withdrawn]
        if not versions:
            raise RollbackRefused(
                f"model {name!r} is not loaded; loaded: {', '.join(sorted({n for n, _ in self._models}))}"
            )
        stable = self.registry.get(name, "")
        older = [key for key in versions if int(key[1]) < int(stable.contract.version)]
        if not older:
            raise RollbackRefused(
                f"{name} {stable.contract.version} is the oldest version that is loaded and not withdrawn; publish the "
                "one that you want back under a new number"
            )
        # What lies between is newer than what is gone back to, and no better known.
        self._withdrawn |= {key for key in versions if int(key[1]) >= int(stable.contract.version)}
        self._serve(self._models, self._labels)
        now = self.registry.get(name, "")
        _log.warning("rolled back", model=name, from_version=stable.contract.version, to_version=now.contract.version)
        return now

    def overview(self) -> list[dict[str, object]]:
        """What is loaded, for people and programs that run the service."""
        shares = self.registry.shares()
        return [
            {
                "model": model.contract.name,
                "version": model.contract.version,
                "digest": model.digest,
                "share": shares[model.key],
                "withdrawn": model.key in self._withdrawn,
            }
            for model in self.registry.all()
        ]

    async def _loaded(self, key: Key, path: Path, state: FileState) -> Model | None:
        """The model, added; None when it is refused."""
        loader = ThreadPoolExecutor(1, thread_name_prefix="reload")
        try:
            loading = asyncio.get_running_loop().run_in_executor(loader, self._load, path, state)
            model = await asyncio.wait_for(loading, _LONGEST_LOAD_S)
        except (ModelRefused, TimeoutError) as error:
            self._refused[key] = state
            self._metrics.reloads[Reloaded.MODEL, ReloadOutcome.REFUSED].inc()
            # The failure holds on to the network in cycles.
            gc.collect()
            detail = str(error) or f"it was not ready after {_LONGEST_LOAD_S:.0f} s"
            _log.error("a new version was not taken", model=key[0], version=key[1], detail=detail)
            return None
        finally:
            loader.shutdown(wait=False)
        self._add(model)
        self._watch_end_of(model)
        self._metrics.reloads[Reloaded.MODEL, ReloadOutcome.TAKEN].inc()
        return model

    def _load(self, path: Path, state: FileState) -> Model:
        """In a thread, beside what is served.

        Raises:
            ModelRefused: it is not taken.
        """
        used_bytes = sum(model.resident_bytes for model in self._models.values()) + sum(self._leaving.values())
        needed_bytes = _MEMORY_FACTOR * state.size_bytes
        if used_bytes + needed_bytes > self._options.memory_bytes:
            raise ModelRefused(
                f"{path} takes about {needed_bytes} bytes, and the networks that are loaded take {used_bytes} of "
                f"{self._options.memory_bytes}; take versions out of the store that are not used any more, or raise "
                "DENOISED_MODELS_MEMORY_BYTES"
            )
        model = load_model(path, self._engine_options)
        self._compare_pace(path, model)
        return model

    def _compare_pace(self, path: Path, model: Model) -> None:
        """In turns with the one that is stable, so that what else runs slows both."""
        name = model.contract.name
        if self._engine_options.provider == "cuda":
            # Its one lane belongs to what is served.
            return
        if not any(key[0] == name for key in self._models):
            return
        stable = self.registry.get(name, "")
        new_s = old_s = inf
        for run_count in range(1, _MOST_PACE_RUNS + 1):
            new_s = min(new_s, model.engine.unit_seconds_per_pixel())
            old_s = min(old_s, stable.engine.unit_seconds_per_pixel())
            if run_count >= _LEAST_PACE_RUNS and new_s <= old_s * self._options.slower_factor:
                return
        raise ModelRefused(
            f"{path} takes {new_s / old_s:.1f} times as long as version {stable.contract.version}; at most "
            f"{self._options.slower_factor:g} is taken. Give it a name of its own, or raise "
            "DENOISED_SLOWER_MODEL_FACTOR"
        )

    def _serve(self, models: Mapping[Key, Model], labels: Mapping[str, Labels]) -> None:
        registry = Registry(
            list(models.values()), default_name=self._default_name, labels=labels, withdrawn=self._withdrawn
        )
        for key in self._models.keys() - models.keys():
            self._leaving[key] = self._models[key].resident_bytes
            _log.info("a version leaves", model=key[0], version=key[1])
        self._models, self._labels, self.registry = dict(models), labels, registry
        self._metrics.model_share.clear()
        for key, share in registry.shares().items():
            self._metrics.model_share[key].set(share)
        self._swapped()

    def _watch_end_of(self, model: Model) -> None:
        loop, key = asyncio.get_running_loop(), model.key
        # The last user may be in any thread.
        weakref.finalize(model, _tell, loop, self._ended, key).atexit = False

    def _ended(self, key: Key) -> None:
        if self._leaving.pop(key, None) is not None:
            self._withdrawn.discard(key)
            self._remove(key)
            _log.info("a version was closed", model=key[0], version=key[1])

    def _complain(self, problems: Mapping[str, str]) -> None:
        if problems != self._problems:
            self._problems = problems
            for problem in problems.values():
                self._metrics.reloads[Reloaded.MODEL, ReloadOutcome.REFUSED].inc()
                _log.error("labels were not taken", detail=problem)


def find(store: Path, precision: PrecisionChoice, name_pattern: str) -> Found:
    """What lies in the store now under these names, and what is wrong with its labels."""
    files: dict[Key, tuple[Path, FileState]] = {}
    for folder in version_folders(store):
        if not fnmatchcase(folder.parent.name, name_pattern):
            continue
        path = file_in(folder, precision)
        try:
            stat = path.stat()
        except OSError:
            # Of another precision, or going away.
            continue
        files[folder.parent.name, folder.name] = (path, FileState(stat.st_ino, stat.st_mtime_ns, stat.st_size))
    labels, problems = {}, {}
    for path in sorted(store.glob(f"*/{LABELS_FILE}")):
        if not fnmatchcase(path.parent.name, name_pattern):
            continue
        try:
            labels[path.parent.name] = read_labels(path)
        except ValueError as error:
            problems[path.parent.name] = f"{path}: {error}"
    return Found(files, labels, problems)


def read_labels(path: Path) -> Labels:
    """``stable``, ``canary`` and ``canary_weight`` of a model.

    Raises:
        ValueError: it can't be read, or says something else.
    """
    try:
        if path.stat().st_size > _LARGEST_LABELS_BYTES:
            raise ValueError(f"it has more than {_LARGEST_LABELS_BYTES} bytes")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(str(error.strerror)) from error
    unknown = sorted(set(values) - {"stable", "canary", "canary_weight"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)[:80]} is unknown; known: stable, canary, canary_weight")
    for label in ("stable", "canary"):
        version = values.get(label)
        if version is not None and not (isinstance(version, str) and version.isascii() and version.isdecimal()):
            raise ValueError(f'{label} is {str(version)[:40]!r}; it must be a version as text, such as "3"')
    weight = values.get("canary_weight", 0.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (isfinite(weight) and 0 <= weight <= 1):
        raise ValueError(f"canary_weight is {str(weight)[:40]}; it must lie in 0..1")
    return Labels(values.get("stable"), values.get("canary"), float(weight))


def _tell(loop: asyncio.AbstractEventLoop, ended: Callable[[Key], None], key: Key) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(ended, key)
