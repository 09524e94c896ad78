"""What several verbs of the command line share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from tqdm import tqdm

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 -- argparse names the type of add_subparsers() nowhere else


def advancing(bar: "tqdm[NoReturn]") -> Callable[[Path], None]:
    """A callback that moves the bar by one file and names it."""

    def advance(path: Path) -> None:
        bar.set_postfix_str(path.name)
        bar.update()

    return advance
