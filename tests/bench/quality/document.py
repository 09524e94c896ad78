"""One set's whole measurement as the tree that is written as JSON; tables and plots are made from that tree alone."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from tests.bench.machine import describe_machine
from tests.bench.quality.anchors import anchors_of
from tests.bench.quality.artefacts import Artefacts
from tests.bench.quality.images import ImageSet
from tests.bench.quality.protocols import PHOTO_GAIN, PHOTO_JPEG_QUALITY, PHOTO_READ_NOISE
from tests.bench.quality.scores import DEFINITIONS, Row, Score

# Files of another form are not read.
FORMAT: Final = 2
PROTOCOLS: Final = {
    "gaussian": "default_rng(1000 + i) for image i, standard normal x sigma, clipped, rounded to 8 bit",
    "photo": f"variance {PHOTO_GAIN:g} x + {PHOTO_READ_NOISE:g}^2 on x in 0..1, the same seeds, clipped, rounded to "
    f"8 bit, JPEG quality {PHOTO_JPEG_QUALITY}",
    "clean": "nothing is added",
}
_BASELINE_PACKAGES: Final = ("opencv-python-headless", "scikit-image", "pywavelets", "pillow")

Document = dict[str, Any]


def document(
    image_set: ImageSet,
    sigmas: Sequence[int],
    rows: Sequence[Row],
    scores: Sequence[Score],
    artefacts: Sequence[Artefacts],
    skipped: Sequence[str],
) -> Document:
    """Everything about a set, as it comes back from its JSON.

    Args:
        image_set: what was measured.
        sigmas: of the Gaussian protocol.
        rows, scores, artefacts: the results.
        skipped: what was left out, and why.
    """
    images = [
        {"file": image.name, "shape": image.samples.shape, "is_colour": image.is_colour} for image in image_set.images
    ]
    tree = {
        "format": FORMAT,
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "tests.bench.quality", *sys.argv[1:]]),
        "machine": describe_machine() | {"baseline_packages": _versions(_BASELINE_PACKAGES)},
        "image_set": image_set.name,
        "images": images,
        "metric": DEFINITIONS,
        "protocols": PROTOCOLS,
        "sigmas": sorted(sigmas),
        "rows": [asdict(row) for row in rows],
        "anchors": [asdict(anchor) for anchor in anchors_of(image_set.name, len(images))],
        "skipped": list(skipped),
        "artefacts": [asdict(each) for each in artefacts],
        "scores": [asdict(score) for score in scores],
    }
    decoded: Document = json.loads(json.dumps(tree))
    return decoded


def to_text(tree: Document) -> str:
    """The JSON file: one score a line."""
    scores = ",\n  ".join(json.dumps(score) for score in tree["scores"])
    rest = json.dumps({key: value for key, value in tree.items() if key != "scores"}, indent=1)
    return f'{rest[:-2]},\n "scores": [\n  {scores}\n ]\n}}\n'


def _versions(names: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
