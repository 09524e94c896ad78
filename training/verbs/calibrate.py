"""``calibrate``: measures a published model's statistics again, without a new export."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs, crop_count, progress, version

_DESCRIPTION = """\
Every answer of the service comes with statistics (noise found, share of it removed, structure left in the residual,
energy), and with their quantiles: how unusual each is among answers for images like those that the model was made for.
The quantiles are measured at export and travel in the model file. This verb measures them again, on other images or on
more crops, and publishes the same network as a new version; the files that it starts from are not changed. An int8
variant answers otherwise and is measured by itself.
"""

_EXAMPLE = """\
example:
  python -m training prepare MY_IMAGES --to runs/my-pack
  python -m training calibrate runs/models/quick/1 --data runs/my-pack
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "calibrate",
        help="measure a published model's statistics again; a new version with new quantiles",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="VERSION", type=Path, help="directory of a version, such as models/quick/1, or its model.onnx"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="packed images; the held-out ones are measured, or all without such"
    )
    parser.add_argument("--to", type=Path, metavar="STORE", help="model store (default: where the model lies)")
    parser.add_argument("--version", type=version, help="whole number (default: the next free one)")
    parser.add_argument(
        "--crops", type=crop_count, help="crops to measure; more are steadier (default: as many as an export)"
    )
    parser.add_argument(
        "--all-images",
        action="store_true",
        help="measure images that were trained on as well: more kinds of scene than a few held-out ones",
    )
    parser.add_argument("--seed", type=int, default=0, help="of crops and noise (default 0)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.export.calibrate import DEFAULT_CROP_COUNT
    from training.export.recalibrate import has_int8, recalibrate

    count = arguments.crops or DEFAULT_CROP_COUNT
    with progress(count * (2 if has_int8(arguments.source) else 1), "crop") as bar:
        done = recalibrate(
            arguments.source,
            Pack(arguments.data),
            store=arguments.to,
            version=arguments.version,
            crop_count=count,
            seed=arguments.seed,
            of_all=arguments.all_images,
            on_crop=bar.update,
        )
    calibration = done.contract.calibration
    middle = calibration.sigmas[len(calibration.sigmas) // 2]
    print(f"{done.path}: noise {calibration.sigmas[0]:.1f} to {calibration.sigmas[-1]:.1f} levels; at {middle:.1f}:\n")
    print(f"{'statistic':32}{'p1':>12}{'p50':>12}{'p99':>12}")
    for name in calibration.quantiles:
        values = (calibration.value_at(name, probability, middle) for probability in (0.01, 0.5, 0.99))
        print(f"{name:32}" + "".join(f"{value:12.4g}" for value in values))
