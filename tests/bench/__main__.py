"""``python -m tests.bench``: measures the service against what the machine can do, and prints the table."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tests.bench.bench import Bench, Options, bench
from tests.bench.figures import Row
from tests.bench.machine import describe_machine
from tests.bench.rows import throughput
from tests.bench.table import as_json, markdown

Measure = Callable[[Bench, Callable[[], object]], Row]

ROWS: dict[str, Measure] = {
    case.key: lambda bench, on_round, case=case: throughput.measure(case, bench, on_round)  # type: ignore[misc]
    for case in throughput.CASES
}


def main() -> int:
    arguments = _arguments()
    options = Options(
        rounds=1 if arguments.short else arguments.rounds,
        seconds=min(1.0, arguments.seconds) if arguments.short else arguments.seconds,
        is_short=arguments.short,
    )
    rows = []
    with bench(options) as shared, tqdm(total=len(arguments.only) * options.rounds, unit="round", disable=None) as bar:
        for key in arguments.only:
            bar.set_description(key)
            rows.append(ROWS[key](shared, partial(bar.update)))
    print(markdown(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_document(rows), indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.wrong for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=_keys, default=list(ROWS), help=f"rows, with commas: {','.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (default 3)")
    parser.add_argument("--short", action="store_true", help="one short round of small sizes: are the answers right?")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    return parser.parse_args()


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    unknown = [key for key in keys if key not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return keys


def _document(rows: list[Row]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]]),
        "machine": describe_machine(),
        "rows": [as_json(row) for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
