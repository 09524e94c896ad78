"""What several verbs of the command line share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from tqdm import tqdm

from training.errors import ConfigError
from training.export.store import is_version

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 -- argparse names the type of add_subparsers() nowhere else

_PLOT_SUFFIXES: Final = (".png", ".svg")


def progress(total: int, unit: str, what: str = "") -> "tqdm[NoReturn]":
    """A bar with an estimate of the time left; nothing where there is no terminal."""
    return tqdm(total=total, unit=unit, desc=what, disable=None)


def advancing(bar: "tqdm[NoReturn]") -> Callable[[Path | str], None]:
    """A callback that moves the bar by one file and names it."""

    def advance(file: Path | str) -> None:
        bar.set_postfix_str(Path(file).name, refresh=False)
        bar.update()

    return advance


def check_plot_path(path: Path | None) -> None:
    """Raises ConfigError for a --plot that can't be drawn, before anything is measured for it."""
    if path is not None and path.suffix.lower() not in _PLOT_SUFFIXES:
        raise ConfigError(f"--plot is {path}; its suffix must be one of: {', '.join(_PLOT_SUFFIXES)}")


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """What ``--set KEY=VALUE`` gave. Raises ConfigError for anything else."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: must be KEY=VALUE, such as optimiser.steps=500")
    return dict(text.split("=", 1) for text in texts)


def crop_count(text: str) -> int:
    """How many crops a calibration measures, as a type of argument."""
    count = int(text)
    if count < 2:
        raise argparse.ArgumentTypeError(f"{count} crops have no quantiles; give at least 2, better 1000")
    return count


def version(text: str) -> str:
    """The version of a model, as a type of argument."""
    if not is_version(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no version; give a whole number from 1, such as 3")
    return text


def add_publishing(parser: argparse.ArgumentParser) -> None:
    """Options of a verb that publishes a version."""
    parser.add_argument("--version", type=version, help="whole number (default: the next free one)")
    add_calibration_crops(parser)


def add_calibration_crops(parser: argparse.ArgumentParser) -> None:
    """How much is measured of a file's answers before it is published."""
    parser.add_argument(
        "--calibration-crops",
        type=crop_count,
        help="crops that the statistics' quantiles are measured on; fewer are faster and less steady (default: 1024)",
    )
