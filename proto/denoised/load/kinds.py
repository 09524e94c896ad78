"""The kinds of images of a mix: how they are written on the command line, and what one is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Container = Literal["raw", "png", "jpeg"]
SampleType = Literal["u8", "u16"]
Colour = Literal["grey", "colour"]

CONTAINERS: Final[tuple[Container, ...]] = ("raw", "png", "jpeg")
SAMPLE_TYPES: Final[tuple[SampleType, ...]] = ("u8", "u16")
COLOURS: Final[tuple[Colour, ...]] = ("grey", "colour")

_FORM: Final = "WIDTHxHEIGHT[/raw|png|jpeg][/u8|u16][/grey|colour][:SHARE]"
_SIZE: Final = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """Images alike in all but their pixels; ``weight`` is their part of all images, in any unit."""

    width_px: int
    height_px: int
    container: Container
    sample_type: SampleType
    colour: Colour
    weight: float

    @property
    def channel_count(self) -> int:
        return 3 if self.colour == "colour" else 1

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px} {self.container} {self.sample_type} {self.colour}"


def parse_mix(
    entries: Sequence[str], *, container: Container, sample_type: SampleType, colour: Colour
) -> tuple[Kind, ...]:
    """The kinds of a mix such as ``256x256:0.9,1024x1024/png/u16:0.1``.

    Args:
        entries: comma-separated lists of ``WIDTHxHEIGHT[/raw|png|jpeg][/u8|u16][/grey|colour][:SHARE]``; shares are
            relative to each other, and 1 when left out.
        container: of entries that name none; so for the others.
        sample_type: likewise.
        colour: likewise.

    Raises:
        ValueError: an entry has another form, or asks for what no file can hold.
    """
    texts = [text.strip() for entry in entries for text in entry.split(",")]
    return tuple(_kind(text, container=container, sample_type=sample_type, colour=colour) for text in texts)


def _kind(text: str, *, container: Container, sample_type: SampleType, colour: Colour) -> Kind:
    what, _, share = text.partition(":")
    size, *rest = what.split("/")
    matched = _SIZE.fullmatch(size)
    if matched is None:
        raise ValueError(f"{text!r} names no size; write {_FORM}, such as 256x256/png:0.9")
    for part in rest:
        if part in CONTAINERS:
            container = part
        elif part in SAMPLE_TYPES:
            sample_type = part
        elif part in COLOURS:
            colour = part
        else:
            raise ValueError(
                f"{text!r}: {part!r} is none of {', '.join((*CONTAINERS, *SAMPLE_TYPES, *COLOURS))}; write {_FORM}"
            )
    if container == "jpeg" and sample_type != "u8":
        raise ValueError(f"{text!r}: a JPEG holds 8 bits a sample; write png or raw for {sample_type}")
    return Kind(int(matched[1]), int(matched[2]), container, sample_type, colour, _weight(share, text))


def _weight(share: str, text: str) -> float:
    try:
        weight = float(share) if share else 1.0
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < float("inf"):
        raise ValueError(f"{text!r}: the share is {share!r}; it must be a number above 0, such as 0.1")
    return weight
