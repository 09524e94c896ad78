"""``doctor``: looks at the machine, and at packs and runs, and says what is off and what to do."""

import argparse
import sys
from pathlib import Path

from training.verbs.common import Verbs

_TEXT = """\
Looks at what a run depends on: versions, the processor's flags, threads against the container's quota, CUDA, memory,
disk. Given packs or runs, it compares every digest in them. Each line is OK, WARNING or PROBLEM, with what to do about
it; the exit code is 1 when there is a PROBLEM.
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser("doctor", help="check this machine, packs and runs", description=_TEXT)
    parser.add_argument("paths", type=Path, nargs="*", metavar="PACK_OR_RUN", help="folders to verify, byte for byte")
    parser.add_argument("--runs", type=Path, default=Path(), help="where runs are kept, for the disk's free space")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.run.doctor import examine

    levels = []
    for finding in examine(arguments.paths, arguments.runs):
        print(finding.line(), flush=True)
        levels.append(finding.level)
    problems, warned = levels.count("PROBLEM"), levels.count("WARNING")
    print(f"{problems} problems, {warned} warnings")
    if problems:
        sys.exit(1)
