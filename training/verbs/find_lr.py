"""``find-lr``: the learning rate range test."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs, check_plot_path, parse_overrides

_TEXT = """\
Trains throw-away weights for a few steps while the learning rate rises from --from to --to, prints the loss along the
way, draws by how much it falls, and suggests a rate: a tenth of the one at which it falls most.
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("find-lr", help="find a learning rate by a range test", description=_TEXT)
    parser.add_argument("config", type=Path, help="TOML file")
    parser.add_argument("--data", type=Path, required=True, help="packed images, from prepare")
    parser.add_argument("--from", dest="low", type=float, default=1e-6, help="first rate (default 1e-6)")
    parser.add_argument("--to", dest="high", type=float, default=1.0, help="last rate (default 1)")
    parser.add_argument("--steps", type=int, default=200, help="steps between them (default 200)")
    parser.add_argument(
        "--plot", type=Path, default=Path("find-lr.png"), help="PNG or SVG to write (default find-lr.png)"
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="such as data.batch_size=32"
    )
    parser.add_argument(
        "--noise", type=Path, metavar="JSON", help="noise that fit-noise found, in place of the config's"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is any"
    )
    parser.add_argument("--workers", type=int, help="processes that make batches; 0 for none")
    parser.add_argument("--threads", type=int, help="threads of torch (default: the cores that this process may use)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.config import load_config
    from training.data.pack import Pack
    from training.run.lr_finder import find_rate
    from training.run.machine import limit_threads

    check_plot_path(arguments.plot)
    limit_threads(arguments.threads)
    test = find_rate(
        load_config(arguments.config, parse_overrides(arguments.overrides), noise_path=arguments.noise),
        Pack(arguments.data),
        low=arguments.low,
        high=arguments.high,
        steps=arguments.steps,
        device=arguments.device,
        workers=arguments.workers,
    )
    test.plot(arguments.plot)
    print(f"{test.text()}\nthe curve is in {arguments.plot}")
