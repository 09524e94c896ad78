"""``train``: trains a network, or continues a run that was broken off."""

import argparse
from pathlib import Path

from training.errors import ConfigError
from training.verbs.common import Verbs


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("train", help="train a network; continue a run that was broken off")
    parser.add_argument("config", type=Path, nargs="?", help="TOML file; left out with --resume")
    parser.add_argument("--data", type=Path, required=True, help="packed images, from prepare")
    parser.add_argument("--run", dest="run_path", type=Path, required=True, help="directory of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in this directory")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="such as optimiser.steps=500"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="RUN",
        help="begin with another run's weights; new residual blocks start as identity",
    )
    parser.add_argument("--threads", type=int, help="threads of torch; its own choice when left out")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import torch

    from training.config import load_config
    from training.data.pack import Pack
    from training.run.directory import RunDir
    from training.run.loop import train

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    run_dir = RunDir(arguments.run_path)
    if arguments.resume:
        if arguments.config is not None or arguments.overrides:
            raise ConfigError("a resumed run keeps its own config; leave out the config file and --set")
        config = run_dir.load_config()
    else:
        if arguments.config is None:
            raise ConfigError("name a config file such as training/configs/quick.toml, or continue with --resume")
        config = load_config(arguments.config, _overrides(arguments.overrides))
        run_dir.create(config)
    parent = None if arguments.start_from is None else RunDir(arguments.start_from)
    result = train(config, Pack(arguments.data), run_dir, resume=arguments.resume, start_from=parent)
    figure = "" if result.held_out_psnr_db is None else f", {result.held_out_psnr_db:.2f} dB on held-out images"
    print(f"{result.step} steps done{figure}; the run is in {arguments.run_path}")


def _overrides(texts: list[str]) -> dict[str, str]:
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: must be KEY=VALUE, such as optimiser.steps=500")
    return dict(text.split("=", 1) for text in texts)
