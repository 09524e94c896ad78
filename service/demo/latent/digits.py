"""The pictures of the demo: digits that its models were not trained on, and two pictures that are none.

``digits.png`` holds the last 179 of scikit-learn's digits, which ``training digits`` sets apart as test images, in rows
of twenty; ``digits.txt`` their labels. They are from E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, CC BY 4.0.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service import codec

SIDE_PX: Final = 8
_COLUMN_COUNT: Final = 20
_FOLDER: Final = Path(__file__).parent

Picture = NDArray[np.uint8]

# Drawn by hand, so to say: white where there is an x.
_FACE: Final = (
    "..xxxx..",
    ".x....x.",
    "x.x..x.x",
    "x......x",
    "x.x..x.x",
    "x..xx..x",
    ".x....x.",
    "..xxxx..",
)


class Digits(NamedTuple):
    """Pictures (N, 8, 8) with their labels (N,)."""

    pictures: Picture
    labels: NDArray[np.intp]

    def first_of_each(self) -> list[int]:
        """The number of the first picture of each label, 0 to 9."""
        return [int(np.argmax(self.labels == label)) for label in range(10)]


def held_out_digits() -> Digits:
    """All of them."""
    file = (_FOLDER / "digits.png").read_bytes()
    sheet = codec.decode(file, codec.sniff(file, claimed=None)).colour[:, :, 0]
    labels = np.array(list((_FOLDER / "digits.txt").read_text(encoding="ascii").strip()), np.intp)
    rows = sheet.reshape(-1, SIDE_PX, _COLUMN_COUNT, SIDE_PX).transpose(0, 2, 1, 3)
    return Digits(rows.reshape(-1, SIDE_PX, SIDE_PX)[: len(labels)].astype(np.uint8), labels)


def outliers(digits: Digits) -> dict[str, Picture]:
    """Pictures that no model of digits should take for one, by name."""
    face = np.array([[255 * (mark == "x") for mark in row] for row in _FACE], np.uint8)
    return {"a face": face, "a negative": 255 - digits.pictures[digits.first_of_each()[3]]}
