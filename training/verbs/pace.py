"""``pace``: how much of the processor a published network uses, beside a plain chain of convolutions."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs

_DESCRIPTION = """\
Runs a published denoiser and a plain chain of 3x3 convolutions in turn, on one thread of this machine, and tells the
multiply-accumulates per second of both and their ratio. The chain is the fastest that ONNX Runtime does on a processor,
so the ratio says what the network's shape gives away to narrow layers and to all that is no multiplication. It differs
less from machine to machine than milliseconds do.
"""

_EXAMPLE = """\
example:
  python -m training pace runs/models/quick/1
  python -m training pace service/models/gaussian-base/2 --at-least 0.85
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "pace",
        help="measure a published network's speed beside a plain chain of convolutions",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="VERSION", type=Path, help="directory of a version, such as models/quick/1, or a file in it"
    )
    parser.add_argument(
        "--at-least", type=float, metavar="RATIO", help="fail where the ratio on the largest picture is below this"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.errors import TooSlow
    from training.export.pace import measure_pace
    from training.run.published import open_published

    published = open_published(arguments.source)
    contract = published.contract
    paces = measure_pace(published.model_bytes, contract)
    print(f"{contract.name}, version {contract.version}, {contract.precision}: {contract.gmac_per_megapixel} GMAC/MP")
    for pace in paces:
        print(
            f"  {pace.width_px} x {pace.height_px}: {pace.time_ms:.2f} ms, {pace.gmac_per_s:.1f} GMAC/s, "
            f"{pace.share:.2f} of the chain's {pace.chain_gmac_per_s:.1f} (quartiles {pace.low:.2f} to {pace.high:.2f})"
        )
    largest = paces[-1]
    if arguments.at_least is not None and not largest.share >= arguments.at_least:
        raise TooSlow(
            f"{contract.name} computes at {largest.share:.2f} of a plain chain's pace on {largest.width_px} x "
            f"{largest.height_px} pixels; at least {arguments.at_least:g} was asked for. Narrow layers, additions and "
            "resizes cost the rest: make layers wider and fewer"
        )
