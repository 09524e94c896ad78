"""``python -m tests.bench``: measures the service against what the machine can do, and prints the table."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from tests.bench import baseline
from tests.bench.bench import Bench, Options, bench
from tests.bench.figures import MeasurementFailed, Row
from tests.bench.machine import describe_machine
from tests.bench.rows import alone, faults, halo, jpeg, large, memory, overload, throughput
from tests.bench.table import as_json, markdown

_SHORT_SECONDS: Final = 0.5
_BASELINE: Final = Path(__file__).parents[2] / "docs" / "results" / "bench.json"

ROWS: Final[Mapping[str, Callable[[Bench], Row]]] = {
    **{case.key: partial(throughput.measure, case) for case in throughput.CASES},
    "halo": halo.measure,
    "jpeg12": jpeg.measure,
    "idle512": alone.measure_latency,
    "start": alone.measure_start,
    "rss": memory.measure_load,
    "chunked100": large.measure,
    "overload": overload.measure,
    "beside64": faults.measure_beside,
    "mixed": faults.measure_mixed,
    "soak": memory.measure_soak,
}


def main() -> int:
    arguments = _arguments()
    options = Options(
        rounds=1 if arguments.short else arguments.rounds,
        seconds=min(_SHORT_SECONDS, arguments.seconds) if arguments.short else arguments.seconds,
        is_short=arguments.short,
        soak_seconds=arguments.soak_seconds,
    )
    rows: list[Row] = []
    try:
        with bench(options) as shared, tqdm(arguments.only, unit="row", disable=None) as bar:
            for key in bar:
                bar.set_description(key)
                rows.append(_measured(key, shared))
    except MeasurementFailed as error:
        rows.append(Row("shared", "the service that rows share", wrong=[str(error)]))
    print(markdown(rows, is_judged=not options.is_short))
    if arguments.baseline.exists() and not options.is_short:
        document = json.loads(arguments.baseline.read_text(encoding="utf-8"))
        print(f"\nAgainst {arguments.baseline} of {document['date']}{_other_machine(document)}:\n")
        print(baseline.markdown(baseline.changes(document, rows)))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_document(rows), indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.wrong for row in rows) else 0


def _measured(key: str, shared: Bench) -> Row:
    try:
        return ROWS[key](shared)
    except MeasurementFailed as error:
        return Row(key, key, wrong=[str(error)])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=_keys, default=list(ROWS), help=f"rows, with commas: {','.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (default 3)")
    parser.add_argument("--soak-seconds", type=float, default=60.0, help="length of the soak (default 60)")
    parser.add_argument("--short", action="store_true", help="one short round of small sizes: are the answers right?")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--baseline", type=Path, default=_BASELINE, help="an earlier run's --json, to compare with")
    return parser.parse_args()


def _keys(text: str) -> list[str]:
    keys = text.split(",")
    unknown = [key for key in keys if key not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return keys


def _other_machine(document: Mapping[str, Any]) -> str:
    then, now = document["machine"], describe_machine()
    differing = [name for name in ("cores", "processor", "flags") if then[name] != now[name]]
    return f" (another machine: {', '.join(differing)} differ)" if differing else ""


def _document(rows: list[Row]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]]),
        "machine": describe_machine(),
        "rows": [as_json(row) for row in rows],
    }


if __name__ == "__main__":
    sys.exit(main())
