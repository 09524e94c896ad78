"""``python -m training VERB``: from a folder of images to a servable model. Each verb is a module of its own."""

import argparse
import signal
import sys
from collections.abc import Sequence

from training.errors import TrainingError
from training.verbs import (
    calibrate,
    compare,
    digits,
    doctor,
    evaluate,
    export,
    find_lr,
    fit_noise,
    pace,
    prepare,
    quantize,
    report,
    train,
)

# In the order in which a user needs them. Torch takes seconds to import; the verbs import what they need when they
# run, so that --help is instant.
_VERBS = (
    digits,
    prepare,
    fit_noise,
    find_lr,
    train,
    evaluate,
    report,
    compare,
    export,
    calibrate,
    quantize,
    pace,
    doctor,
)

_EXAMPLE = """\
example, from a folder of clean images to a running service:
  python -m training prepare IMAGES --to runs/pack
  python -m training train training/configs/quick.toml --data runs/pack --run runs/quick
  python -m training evaluate runs/quick --images VALIDATION_IMAGES
  python -m training export runs/quick --data runs/pack --to runs/models
  make serve MODELS=runs/models
"""


def main(words: Sequence[str] | None = None) -> int:
    """Does what the command line says, or these words in its place.

    Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted (a run keeps its checkpoints).
    """
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Makes denoising autoencoders and exports them to ONNX.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in _VERBS:
        verb.add(verbs)
    arguments = parser.parse_args(words)
    try:
        arguments.run(arguments)
    except TrainingError as error:
        print(f"{arguments.verb} failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # Any file may meet a full or read-only disk; where more is known than that, it came as a TrainingError.
        place = "a file" if error.filename is None else error.filename
        print(
            f"{arguments.verb} failed: {place} cannot be read or written: {error.strerror or error}; free space there, "
            "look at its permissions, or name another place",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"{arguments.verb} was interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
