"""``quantize``: adds the int8 variant to a published model, when that is accurate and faster."""

import argparse
from pathlib import Path

from training.verbs.common import Verbs, add_calibration_crops

_DESCRIPTION = """\
Puts the convolutions of an exported model in 8-bit integers and adds the result to its version as model.int8.onnx, with
a card of its own (README.int8.md). A service serves whichever it is told to by DENOISED_PRECISION; a machine never
chooses by itself.

Ranges are measured on 200 training crops with the model's own noise, from its weakest to its strongest. The first and
last convolutions, the noise estimate, the sums along the network and the residual stay in floats. On held-out images
(training images where none is held out; the card says so) the result may lose 0.15 dB against clean truth at weak noise
(below 20 8-bit levels) and 0.05 dB at strong; pairs are judged once, with their recorded noise, and without clean truth
nothing is published. Convolutions that cost too much go back to floats, the worst first. Then ONNX Runtime's optimised
graph is read to see that every quantised convolution really runs in integers, and both files are timed in turn on one
thread of this machine. An int8 file that is not faster is refused, with the figures.

It needs a CPU with VNNI (python -m training doctor tells), here and where it is served: others give wrong answers,
which the service notices by the golden pair.
"""

_EXAMPLE = """\
example:
  python -m training export runs/quick --data runs/pack --to runs/models
  python -m training quantize runs/models/quick/1 --data runs/pack
  DENOISED_PRECISION=int8 make serve MODELS=runs/models
"""


def add(verbs: Verbs) -> None:
    """Adds the verb to the command line."""
    parser = verbs.add_parser(
        "quantize",
        help="add the int8 variant to an exported model",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="VERSION", type=Path, help="directory of a version, such as models/quick/1, or its model.onnx"
    )
    parser.add_argument("--data", type=Path, required=True, help="packed images that it was trained on")
    add_calibration_crops(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from training.data.pack import Pack
    from training.export.calibrate import DEFAULT_CROP_COUNT
    from training.export.quantize import quantize

    done = quantize(
        arguments.source,
        Pack(arguments.data),
        calibration_crop_count=arguments.calibration_crops or DEFAULT_CROP_COUNT,
        on_step=lambda step: print(f"{step} ..."),
    )
    print(
        f"{done.exported.path}: {done.exported.size_bytes} bytes, {done.fusion.fused_count} of "
        f"{done.fusion.total_count} convolutions in integers"
    )
    for each in done.speed:
        print(
            f"  {each.width_px} x {each.height_px}: {each.ratio:.2f} times as fast (quartiles {each.low:.2f} to "
            f"{each.high:.2f}), {each.first_ms:.2f} ms against {each.second_ms:.2f}"
        )
    for label, loss in done.loss_db.items():
        print(f"  noise {label}: {done.psnr_db[label]:.2f} dB, {loss:+.3f} lost")
    if done.excluded:
        print(f"  in floats because of the budget: {', '.join(done.excluded)}")
