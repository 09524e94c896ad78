"""What the demo's models made as one HTML page that needs nothing else. Decides how things look, and nothing more."""

import base64
import colorsys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

import numpy as np

from service import codec
from service.demo.latent.digits import Picture
from service.demo.latent.scenes import FLAGGED_FROM, Map, Reconstruction, Samples, Scenes, Through, Way
from service.types import Container, Image

_STYLE: Final = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_MAP_SIDE: Final = 640
_MAP_MARGIN: Final = 16


def page_of(scenes: Scenes, *, lead: str) -> str:
    """The whole page; ``lead`` is the line under its title."""
    sections = (
        _section("New digits", _NEW, _grids(scenes.samples)),
        _section("From one digit to another", _WAYS, "".join(map(_way, scenes.ways))),
        _section("The plane of codes", _plane(scenes.map), _map(scenes.map)),
        _section("Through the code and back, and what it costs", _energies(scenes), _table(scenes.through)),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>denoised: latent codes</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>Latent codes, served</h1><p class='lead'>{escape(lead)}</p></header>"
        f"<main>{''.join(sections)}</main><footer>{_FOOTER}</footer></body></html>\n"
    )


_NEW: Final = (
    "Draws from the standard normal, decoded by the variational autoencoder. Nobody wrote these digits. At a lower "
    "temperature they are more typical, and less various."
)
_WAYS: Final = (
    "Both ends are encoded, codes on the way between them are decoded. The variational model goes on an arc, because "
    "its codes lie on a shell; the other one goes straight."
)
_FOOTER: Final = (
    "Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
    "CC BY 4.0, as in scikit-learn; those shown here were not trained on."
)


def _plane(codes: Map) -> str:
    return (
        f"The codes of {len(codes.labels)} digits that the variational model never saw, on the plane in which they "
        f"differ most ({codes.explained_share:.0%} of their variance). No label was used in training."
    )


def _energies(scenes: Scenes) -> str:
    shares = ", ".join(f"{share:.1%} by {name}" for name, share in scenes.flagged_shares.items())
    return (
        "Energy in nats: what the picture costs given its reconstruction, and what its code costs. The quantile is the "
        "share of held-out digits with less reconstruction energy, from the calibration in the model file; from "
        f"{FLAGGED_FROM:g} on a picture is flagged. Of the {len(scenes.map.labels)} digits above it flags {shares}."
    )


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p class='note'>{escape(note)}</p>{body}</section>"


def _grids(samples: Sequence[Samples]) -> str:
    return f"<div class='grids'>{''.join(map(_grid, samples))}</div>"


def _grid(samples: Samples) -> str:
    images = "".join(_image(picture, "a generated digit") for picture in samples.pictures)
    again = "again the same bytes" if samples.is_repeated else "NOT the same bytes again"
    caption = f"Temperature {samples.temperature:g}, seed {samples.seed}; asked twice, {again}."
    return f"<figure><div class='samples'>{images}</div><figcaption>{escape(caption)}</figcaption></figure>"


def _way(way: Way) -> str:
    images = "".join(_image(picture, f"step {index}") for index, picture in enumerate(way.pictures))
    kind = "arc" if way.is_spherical else "straight"
    caption = (
        f"{way.model}, {kind}. Largest change in one step: {way.largest_step:.0f} levels; from end to end: "
        f"{way.direct_change:.0f}."
    )
    columns = f"grid-template-columns: repeat({len(way.pictures)}, 1fr)"
    return (
        f"<figure><div class='way' style='{columns}'>{images}</div><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _map(codes: Map) -> str:
    low, high = codes.points.min(axis=0), codes.points.max(axis=0)
    inside = (codes.points - low) / np.maximum(high - low, 1e-9) * (_MAP_SIDE - 2 * _MAP_MARGIN) + _MAP_MARGIN
    marks = "".join(
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{_COLOURS[label]}'>{label}</text>"
        for (x, y), label in zip(inside, codes.labels, strict=True)
    )
    name = "Each digit's label at the place of its code"
    box = f"viewBox='0 0 {_MAP_SIDE} {_MAP_SIDE}' role='img' aria-label='{name}'"
    return f"<div class='map'><svg {box}>{marks}</svg></div>"


def _table(rows: Sequence[Through]) -> str:
    models = list(rows[0].by_model)
    head = "".join(f"<th>{escape(model)}</th><th>reconstruction</th><th>code</th><th>quantile</th>" for model in models)
    body = "".join(_row(row) for row in rows)
    return (
        f"<div class='scroll'><table><thead><tr><th>picture</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Through) -> str:
    name = f"{row.name}, no digit" if row.is_outlier else row.name
    first = f"<td><span class='cell'>{_image(row.picture, row.name)}{escape(name)}</span></td>"
    return f"<tr>{first}{''.join(cell for made in row.by_model.values() for cell in _cells(made))}</tr>"


def _cells(made: Reconstruction) -> Iterator[str]:
    yield f"<td>{_image(made.answer, 'its reconstruction')}</td>"
    yield f"<td>{made.reconstruction_nats:.1f}</td>"
    yield f"<td>{'undefined' if made.compression_nats is None else f'{made.compression_nats:.1f}'}</td>"
    mark = " class='flagged'" if made.is_flagged else ""
    yield f"<td{mark}>{made.quantile:.3f}{' flagged' if made.is_flagged else ''}</td>"


def _image(picture: Picture, alt: str) -> str:
    image = Image(np.ascontiguousarray(picture[..., np.newaxis]), None, 0.0, 255.0)
    data = base64.b64encode(codec.encode(image, Container.PNG, jpeg_quality=95)).decode()
    height, width = picture.shape
    return f"<img src='data:image/png;base64,{data}' alt='{escape(alt)}' width='{width}' height='{height}'>"


def _colour(label: int) -> str:
    """Ten hues, each readable on light and dark."""
    red, green, blue = colorsys.hls_to_rgb(label / 10, 0.48, 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


_COLOURS: Final = [_colour(label) for label in range(10)]
