"""``export``: writes a run's ONNX files with their contract and card, after all checks."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs, add_publishing

_DESCRIPTION = """\
Writes the averaged weights of a run as ONNX and publishes them as a version of a model that the service can load:
model.onnx, for a network with a code encoder.onnx and decoder.onnx too, and a model card (README.md) with the run's
own figures. Evaluate the run first: what was measured on the very weights that are exported, the best ones where any
were measured, goes into the file and the card.

Before anything is published the written files are checked: one file each, opset 20, allowed operators, free sizes, no
paths of this machine; ONNX Runtime against torch at every optimisation level, for 1, 2 and 5 images of 1 pixel to 640;
flat pictures keep their level and grey gets no colour; encoder and decoder make the whole. Measured and carried by the
file: the halo that tiles need, the receptive field, a golden pair, the quantiles of every statistic of its answers.
A check that fails says what is off, and nothing is left in the store.
"""

_EXAMPLE = """\
example:
  python -m training export runs/quick --data runs/pack --to runs/models
  make serve MODELS=runs/models
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "export",
        help="write the ONNX files with their contract and card, after all checks",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_path", metavar="RUN", type=Path, help="directory of the run")
    parser.add_argument("--data", type=Path, required=True, help="packed images that it was trained on")
    parser.add_argument("--to", type=Path, required=True, help="model store; the model goes to TO/<name>/<version>/")
    add_publishing(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.export.calibrate import DEFAULT_CROP_COUNT
    from training.export.publish import export
    from training.run.directory import RunDir

    exported = export(
        RunDir(arguments.run_path),
        Pack(arguments.data),
        arguments.to,
        version=arguments.version,
        calibration_crop_count=arguments.calibration_crops or DEFAULT_CROP_COUNT,
        on_step=lambda step: print(f"{step} ..."),
        on_note=lambda note: print(f"note: {note}"),
    )
    contract = exported.contract
    where = f"{contract.fixed_side_px} px a side" if contract.fixed_side_px else f"halo {contract.halo_px} px"
    print(
        f"{exported.path}: {exported.size_bytes} bytes, {contract.gmac_per_megapixel} GMAC/MP, {where}, "
        f"at most {contract.parity.max_abs_difference:.1e} from torch"
    )
