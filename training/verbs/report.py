"""``report``: one HTML page of a run, or the plane of codes of several runs."""

import argparse
from pathlib import Path

from training.errors import ConfigError
from training.verbs.common import Verbs

_TEXT = """\
Writes one self-contained HTML page: the run's configuration, its training curves from log.jsonl, and every evaluation
with its table, curves and pictures. It measures nothing; run evaluate first. The page needs no network and can be sent
as it is.

With --panel, the runs' planes of codes are shown side by side: for runs with code_length 2, evaluated on the same set.
"""

_EXAMPLES = """\
examples:
  python -m training report runs/quick
  python -m training report runs/quick --to quick.html
  python -m training report --panel runs/reconstruction runs/divergence runs/both --to plane.html
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "report",
        help="one HTML page of a run and its evaluations",
        description=_TEXT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_path", metavar="RUN", type=Path, nargs="?", help="directory of the run")
    parser.add_argument("--panel", metavar="RUN", type=Path, nargs="+", help="show the planes of codes of these runs")
    parser.add_argument("--set", dest="image_set", help="evaluation for --panel, where the runs share several")
    parser.add_argument("--to", type=Path, help="file to write (default: RUN/report.html; plane.html with --panel)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.evaluation.panel import write_panel
    from training.evaluation.report import write_run_report
    from training.run.directory import RunDir

    if (arguments.run_path is None) == (arguments.panel is None):
        raise ConfigError("name one RUN, or several with --panel RUN RUN RUN")
    if arguments.panel is None:
        path = write_run_report(RunDir(arguments.run_path), arguments.to)
    else:
        path = arguments.to or Path("plane.html")
        write_panel(path, [RunDir(run_path) for run_path in arguments.panel], arguments.image_set)
    print(f"written to {path}")
