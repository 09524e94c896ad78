"""The state of a run between two steps, and what is due after one: figures, validation, checkpoints, an early end.

Nothing in a run is random that is not keyed by the seed and the number of the step, sample or image, so its state is
the weights, the optimiser, the average with its count, the step and how the metric went: what a checkpoint holds.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from training.config import RunConfig
from training.data.pack import Pack
from training.data.sampler import CropSampler
from training.errors import DivergedError, RunError
from training.networks import Network
from training.run.checkpoint import Checkpoint
from training.run.compatible import changes_since, require_continuable
from training.run.directory import RunDir
from training.run.distributed import Ranks
from training.run.feed import Feed
from training.run.interrupt import interruptible
from training.run.log import RunLog, Watcher, watching
from training.run.machine import description
from training.run.schedule import learning_rate
from training.run.step import Stepper
from training.run.stopping import Progress
from training.run.tally import Tally
from training.run.validation import HeldOut, Validator

# Called on rank 0 at every checkpoint with the step and the network, which carries its averaged weights then.
OnCheckpoint = Callable[[int, Network, RunLog], None]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a run ended.

    Attributes:
        step: optimisation steps done.
        held_out_psnr_db: of the averaged weights at the last checkpoint.
        end: ``done``; ``early`` when patience ran out; ``interrupted`` by a signal.
        best_step: of the best checkpoint.
        signal_number: that interrupted.
        samples_per_s: over all steps of this process; checkpoints and validation left out.
        data_wait_share: share of that time in which the device waited for data; on a GPU at most that.
    """

    step: int
    held_out_psnr_db: float | None
    end: Literal["done", "early", "interrupted"] = "done"
    best_step: int | None = None
    signal_number: int = 0
    samples_per_s: float | None = field(default=None, compare=False)
    data_wait_share: float | None = field(default=None, compare=False)


class Run:
    """One run in one process."""

    def __init__(
        self,
        config: RunConfig,
        pack: Pack,
        run_dir: RunDir,
        ranks: Ranks,
        stepper: Stepper,
        on_checkpoint: OnCheckpoint,
    ) -> None:
        self._config = config
        self._pack = pack
        self._run_dir = run_dir
        self._ranks = ranks
        self._stepper = stepper
        self._on_checkpoint = on_checkpoint
        self._validator = Validator(config, pack)
        self._progress = Progress()
        self._done = 0
        self._held_out: HeldOut | None = None
        if config.selection.patience is not None and self._validator.image_count == 0:
            raise RunError(
                f"selection.patience is {config.selection.patience}, but the pack holds out no image that could be "
                "measured; prepare it with held-out images, or leave patience out"
            )

    def restore(self) -> list[str]:
        """Continues from the newest checkpoint; answers what the user should know about it."""
        checkpoint = self._run_dir.checkpoints.load()
        require_continuable(checkpoint, self._config, self._pack, self._run_dir.path)
        self._stepper.network.load_state_dict(checkpoint.network)
        self._stepper.optimiser.load_state_dict(checkpoint.optimiser)
        self._stepper.average.restore(checkpoint.average, checkpoint.average_update_count)
        self._progress = Progress.from_tree(checkpoint.progress)
        self._done = checkpoint.step
        if self._ranks.is_main and self._progress.best_step == checkpoint.step:
            # The run may have been killed after this checkpoint was written, before it was called the best.
            self._run_dir.checkpoints.mark_best()
        return changes_since(checkpoint, self._config, self._machine())

    def go(self, *, resume: bool, workers: int, is_silent: bool) -> TrainResult:
        """All steps, or those that are left behind the newest checkpoint."""
        notes = self.restore() if resume else []
        config, start, stop = self._config, self._done, self._config.optimiser.steps
        if start >= stop or self._is_over():
            self._measure()
            return self._result(None, 0)
        sampler = CropSampler(self._pack, config.noise, seed=config.seed, data=config.data)
        with (
            interruptible() as interrupt,
            self._opened_log() as log,
            watching(stop, start, is_silent=is_silent) as watcher,
            Feed(sampler, config, self._ranks, start=start, stop=stop, workers=workers) as feed,
        ):
            if self._validator.image_count == 0:
                notes = [*notes, "no image is held out: nothing but the loss tells how good the network gets"]
            for note in notes:
                watcher.note(note)
            tally = Tally(feed, self._ranks, samples_per_step=self._samples_per_step)
            signal_number = 0
            while self._done < stop and not signal_number and not self._is_over():
                rate = learning_rate(self._done, config.optimiser)
                figures = self._stepper.step(self._done, feed, rate)
                self._done += 1
                tally.add(self._done, figures)
                watcher.advance()
                signal_number = self._ranks.largest(interrupt.signal_number)
                self._after_step(tally, log, watcher, rate, is_interrupted=signal_number > 0)
            return self._result(tally, signal_number)

    def _after_step(
        self, tally: Tally, log: RunLog | None, watcher: Watcher, rate: float, *, is_interrupted: bool
    ) -> None:
        config, done = self._config, self._done
        is_checkpoint = done % config.checkpoint_every_steps == 0 or done == config.optimiser.steps
        is_measured = is_checkpoint or self._ends_an_epoch_with_energies()
        if not (is_measured or is_interrupted or done % config.log_every_steps == 0):
            return
        record: dict[str, float | int] = {
            "step": done,
            "epoch": round(done * self._samples_per_step / config.data.samples_per_epoch, 4),
            "learning_rate": rate,
            **tally.look(self._stepper.figure_names),
        }
        if is_measured:
            self._measure()
            record |= self._held_out.record() if self._held_out is not None else {}
        if is_checkpoint:
            self._select()
        if is_checkpoint or is_interrupted:
            self._save()
        if log is not None:
            log.write(record)
            if is_checkpoint:
                with self._stepper.average.swapped_in(self._stepper.network):
                    self._on_checkpoint(done, self._stepper.network, log)
        watcher.show(done, self._summary(record))
        # What lies between two steps is no part of their time.
        tally.begin()

    def _measure(self) -> None:
        """Rank 0 measures; all ranks end alike when a figure is no finite number."""
        broken: list[str] = []
        if self._ranks.is_main:
            with self._stepper.average.swapped_in(self._stepper.network):
                self._held_out = self._validator.measure(self._stepper.network, self._ranks.device)
            figures = {} if self._held_out is None else self._held_out.record()
            broken = [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]
        if self._ranks.largest(len(broken)):
            raise DivergedError(
                f"{', '.join(broken) or 'a held-out figure is no finite number'} at step {self._done}; the last good "
                "checkpoint is kept. Begin a run with --start-from this one and a lower optimiser.learning_rate"
            )

    def _select(self) -> None:
        """All ranks learn the metric, so that they stop at the same step."""
        if self._validator.image_count == 0:
            return
        metric = self._config.selection_metric
        own = self._held_out.metric(metric) if self._held_out is not None else None
        value = self._ranks.from_main(math.nan if own is None else own)
        self._progress = self._progress.after(
            self._done, value, metric=metric, min_improvement=self._config.selection.min_improvement
        )

    def _save(self) -> None:
        if not self._ranks.is_main:
            return
        stepper = self._stepper
        self._run_dir.checkpoints.save(
            Checkpoint(
                step=self._done,
                config=self._config.to_json(),
                pack_digest=self._pack.manifest.digest,
                network=stepper.network.state_dict(),
                average=stepper.average.weights,
                average_update_count=stepper.average.update_count,
                optimiser=stepper.optimiser.state_dict(),
                progress=self._progress.to_tree(),
                machine=self._machine(),
                levels=self._pack.manifest.levels,
            )
        )
        if self._progress.best_step == self._done:
            self._run_dir.checkpoints.mark_best()

    def _result(self, tally: Tally | None, signal_number: int) -> TrainResult:
        end: Literal["done", "early", "interrupted"] = "done"
        if self._done < self._config.optimiser.steps:
            end = "interrupted" if signal_number else "early"
        return TrainResult(
            self._done,
            None if self._held_out is None else self._held_out.psnr_db,
            end,
            self._progress.best_step,
            signal_number,
            None if tally is None else tally.samples_per_s,
            None if tally is None else tally.data_wait_share,
        )

    @property
    def _samples_per_step(self) -> int:
        return self._config.data.batch_size * self._config.optimiser.accumulation

    def _is_over(self) -> bool:
        return self._progress.is_over(self._config.selection.patience)

    def _ends_an_epoch_with_energies(self) -> bool:
        """Networks with a code report their energy every epoch, between checkpoints too."""
        epoch = self._config.data.samples_per_epoch
        before, after = ((self._done - ago) * self._samples_per_step // epoch for ago in (1, 0))
        return after > before and self._stepper.network.code_length is not None

    def _machine(self) -> dict[str, Any]:
        return description(self._ranks.device, self._ranks.world_size)

    def _opened_log(self) -> AbstractContextManager[RunLog | None]:
        if not self._ranks.is_main:
            return nullcontext()
        return RunLog(self._run_dir.log_path, self._run_dir.tensorboard_path, start=self._done)

    def _summary(self, record: Mapping[str, float | int]) -> str:
        parts = [f"loss {record['loss']:.4g}"]
        if self._held_out is not None:
            level = self._held_out.psnr_db
            parts.append(f"held out loss {self._held_out.loss:.4g}" if level is None else f"held out {level:.2f} dB")
        parts.append(f"{record['samples_per_s']:.3g} samples/s")
        return ", ".join(parts)
