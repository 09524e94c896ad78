"""Training, from a config and a pack to a run directory: the one function behind the verb.

It decides who takes part (ranks, device, workers) and what a run begins with; its steps are ``running``'s.
"""

from training.config import RunConfig
from training.data.pack import Pack
from training.errors import ConfigError, RunError
from training.run.compatible import require_fitting_pack
from training.run.directory import RunDir
from training.run.distributed import Ranks, joined
from training.run.feed import default_worker_count
from training.run.log import RunLog
from training.run.machine import set_determinism
from training.run.running import OnCheckpoint, Run, TrainResult
from training.run.solve import solve
from training.run.start import Start
from training.run.step import Stepper

__all__ = ["OnCheckpoint", "TrainResult", "train"]


def train(
    config: RunConfig,
    pack: Pack,
    run_dir: RunDir,
    *,
    resume: bool,
    start: Start | None = None,
    device: str = "auto",
    workers: int | None = None,
    show_progress: bool = True,
    on_checkpoint: OnCheckpoint = lambda _step, _network, _log: None,
) -> TrainResult:
    """Runs to ``config.optimiser.steps``, or until patience runs out; writes log and checkpoints on the way.

    Args:
        config: of this run.
        pack: the images.
        run_dir: where this run's files go.
        resume: continue from the newest checkpoint in ``run_dir``.
        start: weights to begin with, unless it resumes.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes that make batches; None for a sensible count, 0 for none. Changes no bit of the result.
        show_progress: draw a bar, or write lines where there is no terminal.
        on_checkpoint: told of every checkpoint.

    Raises:
        ConfigError: config and machine don't fit.
        RunError: no checkpoint to resume from, its network doesn't fit, the disk is full, the loss diverged.
    """
    require_fitting_pack(config, pack)
    with joined(device, config.data.batch_size) as ranks:
        set_determinism(deterministic=config.optimiser.deterministic)
        if config.network.kind == "pca":
            return _solved(config, pack, run_dir, ranks, on_checkpoint, resume=resume, show_progress=show_progress)
        start_weights = None
        if start is not None and not resume:
            start_weights = start.weights
            if ranks.is_main:
                run_dir.save_parent(start.parent)
        # Made and forgotten in one expression: see joined.
        return Run(config, pack, run_dir, ranks, Stepper(config, ranks, start_weights), on_checkpoint).go(
            resume=resume,
            workers=default_worker_count(ranks.device) if workers is None else workers,
            is_silent=not (show_progress and ranks.is_main),
        )


def _solved(
    config: RunConfig,
    pack: Pack,
    run_dir: RunDir,
    ranks: Ranks,
    on_checkpoint: OnCheckpoint,
    *,
    resume: bool,
    show_progress: bool,
) -> TrainResult:
    if ranks.world_size > 1:
        raise ConfigError(
            f"network.kind is pca; it is solved at once, by one rank. Start 1 instead of {ranks.world_size}"
        )
    if resume:
        raise RunError(f"{run_dir.path} is a run of pca, which is solved at once; there is nothing to resume")
    with RunLog(run_dir.log_path, run_dir.tensorboard_path, start=0) as log:
        held_out = solve(
            config,
            pack,
            ranks.device,
            run_dir.checkpoints,
            log,
            show_progress=show_progress,
            on_checkpoint=on_checkpoint,
        )
    return TrainResult(1, None if held_out is None else held_out.psnr_db)
