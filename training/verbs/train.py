"""``train``: trains a network, continues a run that was broken off, or tells what a run would cost."""

import argparse
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import ConfigError
from training.verbs.common import Verbs, parse_overrides

if TYPE_CHECKING:
    from training.config import RunConfig
    from training.data.pack import Pack
    from training.run.directory import RunDir
    from training.run.loop import TrainResult

_TEXT = """\
Trains a network on packed images and keeps everything about the run in one directory: config.json, log.jsonl (one
line every log_every_steps), TensorBoard's files, checkpoints (the newest, the one before it, the best), and a sheet of
held-out pictures.

A run can be ended at any moment, by Ctrl-C, SIGTERM or kill -9, and continued with --resume: on the CPU, with the same
number of threads, the result is the one of the uninterrupted run bit for bit, with any number of --workers.
"""

_EXAMPLES = """\
examples:
  what it will cost, without writing anything:
    python -m training train training/configs/quick.toml --data runs/pack --dry-run
  train, with two values of the config replaced:
    python -m training train training/configs/quick.toml --data runs/pack --run runs/quick \\
      --set optimiser.steps=500 --set optimiser.precision=fp32
  go on after a kill:
    python -m training train --resume --data runs/pack --run runs/quick
  fine-tune a published network, its file alone is enough:
    python -m training train training/configs/photo-base.toml --data runs/pack --run runs/photo \\
      --start-from service/models/gaussian-base/2
  look at it:
    tensorboard --logdir runs
  two processes, or eight GPUs (each batch of data.batch_size is shared among them; mind the --, or torchrun takes
  --run for an option of its own):
    torchrun --nproc-per-node 2 -m -- training train CONFIG --data runs/pack --run runs/two --device cpu
    torchrun --nproc-per-node 8 -m -- training train CONFIG --data runs/pack --run runs/eight
  how fast, beside a plain loop of the same network with its data in memory:
    python -m training train CONFIG --data runs/pack --benchmark
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "train",
        help="train a network; continue a run that was broken off",
        description=_TEXT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, nargs="?", help="TOML file; left out with --resume")
    parser.add_argument("--data", type=Path, required=True, help="packed images, from prepare")
    parser.add_argument("--run", dest="run_path", type=Path, help="directory of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in this directory")
    parser.add_argument("--dry-run", action="store_true", help="print the plan with memory and time; write nothing")
    parser.add_argument("--benchmark", action="store_true", help="state the speed beside a plain loop; write nothing")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="such as optimiser.steps=500"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="PATH",
        help="begin with the weights of another run (its directory) or of a published model (its version's directory "
        "or its model.onnx); new residual blocks start as identity",
    )
    parser.add_argument(
        "--noise", type=Path, metavar="JSON", help="noise that fit-noise found, in place of the config's"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is any"
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that make batches; 0 for none (default: up to 8 for a GPU, 1 for a CPU of 4 cores or more)",
    )
    parser.add_argument("--threads", type=int, help="threads of torch (default: the cores that this process may use)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.run.directory import RunDir
    from training.run.distributed import is_first_rank, ranks_on_this_machine
    from training.run.machine import limit_threads

    _check(arguments)
    limit_threads(arguments.threads, processes=ranks_on_this_machine())
    if arguments.dry_run or arguments.benchmark:
        _tell(arguments, Pack(arguments.data))
        return
    run_dir, pack = RunDir(arguments.run_path), Pack(arguments.data)
    config = _config(arguments)
    with run_dir.held() if is_first_rank() else nullcontext():
        if not arguments.resume and is_first_rank():
            run_dir.create(config)
        result = _train(arguments, config, pack, run_dir)
    if is_first_rank():
        _tell_result(arguments, config, result)
    if result.end == "interrupted":
        # What a shell reports for a process that a signal ended.
        sys.exit(128 + result.signal_number)


def _check(arguments: argparse.Namespace) -> None:
    for name in ("threads", "workers"):
        value, least = getattr(arguments, name), 0 if name == "workers" else 1
        if value is not None and value < least:
            raise ConfigError(f"--{name} is {value}; it must be at least {least}")
    if arguments.resume and (
        arguments.config is not None or arguments.overrides or arguments.start_from or arguments.noise
    ):
        raise ConfigError(
            "a resumed run keeps its own config and weights; leave out the config, --set, --noise and --start-from"
        )
    if arguments.resume and (arguments.dry_run or arguments.benchmark):
        raise ConfigError("--dry-run and --benchmark look at a config, not at a run; leave out --resume")
    if not arguments.resume and arguments.config is None:
        raise ConfigError("name a config file such as training/configs/quick.toml, or continue with --resume")
    if arguments.run_path is None and not (arguments.dry_run or arguments.benchmark):
        raise ConfigError("name a directory for the run with --run, such as --run runs/first")


def _config(arguments: argparse.Namespace) -> "RunConfig":
    from training.config import load_config
    from training.run.directory import RunDir

    if arguments.resume:
        return RunDir(arguments.run_path).load_config()
    return load_config(arguments.config, parse_overrides(arguments.overrides), noise_path=arguments.noise)


def _tell(arguments: argparse.Namespace, pack: "Pack") -> None:
    config = _config(arguments)
    if arguments.start_from is not None:
        from training.run.start import start_from

        start_from(arguments.start_from, config)
    if arguments.benchmark:
        from training.run.benchmark import measure_speed

        print(measure_speed(config, pack, device=arguments.device, workers=arguments.workers).text())
        return
    from training.run.plan import make_plan

    folder = arguments.run_path or Path()
    print(make_plan(config, pack, folder, device=arguments.device, workers=arguments.workers).text())


def _train(arguments: argparse.Namespace, config: "RunConfig", pack: "Pack", run_dir: "RunDir") -> "TrainResult":
    from training.evaluation.held_out_sheet import sheet_drawer
    from training.run.loop import train
    from training.run.start import start_from

    return train(
        config,
        pack,
        run_dir,
        resume=arguments.resume,
        start=None if arguments.start_from is None else start_from(arguments.start_from, config),
        device=arguments.device,
        workers=arguments.workers,
        on_checkpoint=sheet_drawer(config, pack, run_dir),
    )


def _tell_result(arguments: argparse.Namespace, config: "RunConfig", result: "TrainResult") -> None:
    if result.samples_per_s is not None and result.data_wait_share is not None:
        print(
            f"{result.samples_per_s:.4g} samples/s; the device waited for data {result.data_wait_share:.1%} of the time"
        )
    if result.end == "interrupted":
        words = ("train", "--resume", "--data", arguments.data, "--run", arguments.run_path)
        command = shlex.join(["python", "-m", "training", *map(str, words)])
        print(f"interrupted; the checkpoint of step {result.step} is saved. Continue with:\n  {command}")
        return
    if result.end == "early":
        print(
            f"stopped early: {config.selection_metric} has not improved at {config.selection.patience} checkpoints; "
            f"the best is that of step {result.best_step}"
        )
    figure = "" if result.held_out_psnr_db is None else f", {result.held_out_psnr_db:.2f} dB on held-out images"
    print(f"{result.step} steps done{figure}; the run is in {arguments.run_path}")
