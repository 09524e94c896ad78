"""What several verbs of the command line share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from tqdm import tqdm

from training.errors import ConfigError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 -- argparse names the type of add_subparsers() nowhere else


def progress(total: int, unit: str, what: str = "") -> "tqdm[NoReturn]":
    """A bar with an estimate of the time left; nothing where there is no terminal."""
    return tqdm(total=total, unit=unit, desc=what, disable=None)


def advancing(bar: "tqdm[NoReturn]") -> Callable[[Path | str], None]:
    """A callback that moves the bar by one file and names it."""

    def advance(file: Path | str) -> None:
        bar.set_postfix_str(Path(file).name, refresh=False)
        bar.update()

    return advance


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """What ``--set KEY=VALUE`` gave. Raises ConfigError for anything else."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: must be KEY=VALUE, such as optimiser.steps=500")
    return dict(text.split("=", 1) for text in texts)
