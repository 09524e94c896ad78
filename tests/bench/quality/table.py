"""A set's measurement as Markdown, from its JSON and nothing else, and the README's copy of it."""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from denoised.quality import Interval
from tests.bench.quality.document import Document
from tests.bench.quality.measure import headline_sigma
from tests.bench.quality.scores import at, bootstrap_interval

_DASH: Final = "\u2013"
_BEGIN, _END = "<!-- quality:begin -->", "<!-- quality:end -->"


def main_table(tree: Document) -> str:
    """A row for each method: PSNR with its interval, SSIM, detail, sigma found, costs."""
    sigmas = tree["sigmas"]
    levels = "/".join(map(str, sigmas))
    heads = [
        "method",
        *(f"PSNR {sigma}" for sigma in sigmas),
        f"SSIM {levels}",
        f"detail {levels}",
        f"sigma found {levels}",
        "ms/MP",
        "raw ms/MP",
        "GMAC/MP",
    ]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    if any(row["is_grey_only"] for row in tree["rows"]):
        lines += [_line(_method_cells(tree, row, is_grey=False)) for row in tree["rows"] if not row["is_grey_only"]]
        lines += [
            _line(_method_cells(tree, row, is_grey=True))
            for row in tree["rows"]
            if row["is_grey_only"] or row["kind"] == "input"
        ]
    else:
        lines += [_line(_method_cells(tree, row, is_grey=False)) for row in tree["rows"]]
    lines += [_line(_anchor_cells(tree, anchor)) for anchor in tree["anchors"]]
    return "\n".join(lines)


def protocol_table(tree: Document) -> str:
    """Photographs' noise, clean images, grey versions: a row for each method that was measured under them."""
    sigma = headline_sigma(tree["sigmas"])
    lines = [
        _line(["method", "photo PSNR", "photo SSIM", "clean PSNR", f"grey {sigma} PSNR", f"grey - colour, {sigma}"]),
        "|---" * 6 + "|",
    ]
    for row in tree["rows"]:
        name, is_grey = row["method"], row["is_grey_only"]
        photo = at(tree["scores"], name, "photo", is_grey=is_grey)
        clean = at(tree["scores"], name, "clean", is_grey=is_grey)
        if not photo and not clean:
            continue
        grey, change = _grey_against_colour(tree, name, sigma)
        lines.append(
            _line(
                [
                    _shown_name(row, is_grey=is_grey),
                    _with_interval(photo, "psnr_db"),
                    _mean(photo, "ssim", ".3f"),
                    _with_interval(clean, "psnr_db"),
                    grey,
                    _DASH if is_grey or row["kind"] == "input" else change,
                ]
            )
        )
    return "\n".join(lines)


def artefact_table(tree: Document) -> str:
    """The numeric checks, a row for each network; empty where there are none."""
    if not tree["artefacts"]:
        return ""
    lines = [
        _line(["network", "cast", "hue, most", "grid 2/4/8 px", "seams", "constants: shift, deviation", "clean, most"]),
        "|---" * 7 + "|",
    ]
    for each in tree["artefacts"]:
        seams, constants = each["seams"], each["constants"]
        lines.append(
            _line(
                [
                    each["method"],
                    " ".join(f"{value:+.2f}" for value in each["cast_levels"]),
                    f"{each['most_cast_levels']:.2f}",
                    " / ".join(f"{value:.2f}" for value in each["grid"].values()),
                    f"x{seams['border_error_ratio']:.3f}, most {seams['most_levels']}" if seams else _DASH,
                    "; ".join(
                        f"{c['colour']} {c['mean_shift_levels']:+.2f}, {c['deviation_levels']:.2f}" for c in constants
                    )
                    or _DASH,
                    str(max((c["clean_most_levels"] for c in constants), default=_DASH)),
                ]
            )
        )
    return "\n".join(lines)


def whole_text(tree: Document) -> str:
    """What is printed of a set."""
    machine, count = tree["machine"], len(tree["images"])
    parts = [
        (
            f"`{tree['image_set']}`, {count} images, {machine['processor']}, {machine['cores']} cores, {tree['date']}. "
            f"{tree['metric']}."
        ),
        main_table(tree),
        *(f"\\* {a['method']}: {a['source']}." for a in tree["anchors"]),
        protocol_table(tree),
        artefact_table(tree),
        *(f"{line}." for line in tree["skipped"]),
    ]
    return "\n\n".join(part for part in parts if part)


def readme_text(trees: list[Document]) -> str:
    """What the README shows of the sets, without the markers."""
    parts = []
    for tree in trees:
        machine, count = tree["machine"], len(tree["images"])
        parts.append(
            f"`{tree['image_set']}`, {count} images sent as PNG through the running service, {machine['cores']} cores "
            f"of {machine['processor']} ([figures](docs/results/quality-{tree['image_set']}.json), "
            "[what each column is](docs/quality.md)):"
        )
        parts += [main_table(tree), *([f"\\* {_not_measured(tree)}"] if tree["anchors"] else []), protocol_table(tree)]
    return "\n\n".join(parts)


def replace_in_readme(path: Path, trees: list[Document]) -> None:
    """Puts :func:`readme_text` between the markers.

    Raises:
        SystemExit: the file has not exactly one pair of markers.
    """
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}", flags=re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"{path} needs one pair of lines {_BEGIN} and {_END}; the tables go between them")
    replaced = pattern.sub(lambda _: f"{_BEGIN}\n\n{readme_text(trees)}\n\n{_END}", text)
    path.write_text(replaced, encoding="utf-8")


def _not_measured(tree: Document) -> str:
    names = " and ".join(anchor["method"] for anchor in tree["anchors"])
    return f"{names}: the authors' published weights, told sigma; not measured in this run."


def _method_cells(tree: Document, row: dict[str, Any], *, is_grey: bool) -> list[str]:
    by_sigma = [at(tree["scores"], row["method"], "gaussian", sigma=s, is_grey=is_grey) for s in tree["sigmas"]]
    return [
        _shown_name(row, is_grey=is_grey),
        *(_with_interval(scores, "psnr_db") for scores in by_sigma),
        " / ".join(_mean(scores, "ssim", ".3f") for scores in by_sigma),
        " / ".join(_mean(scores, "detail", ".2f") for scores in by_sigma),
        _sigmas_found(row, by_sigma),
        *(_cost(row[key]) for key in ("ms_per_megapixel", "raw_ms_per_megapixel", "gmac_per_megapixel")),
    ]


def _anchor_cells(tree: Document, anchor: dict[str, Any]) -> list[str]:
    psnr_db = [anchor["psnr_db"].get(str(sigma)) for sigma in tree["sigmas"]]
    return [
        f"{anchor['method']}*",
        *(_DASH if value is None else f"{value:.2f}" for value in psnr_db),
        _DASH,
        _DASH,
        "told",
        _DASH,
        _DASH,
        _cost(anchor["gmac_per_megapixel"]),
    ]


def _shown_name(row: dict[str, Any], *, is_grey: bool) -> str:
    name = f"`{row['method']}`" if row["kind"] == "network" else str(row["method"])
    return f"{name}, grey versions" if is_grey else name


def _sigmas_found(row: dict[str, Any], by_sigma: list[list[dict[str, Any]]]) -> str:
    if row["kind"] == "classical":
        return "told"
    if row["kind"] == "input":
        return _DASH
    return " / ".join(_mean(scores, "sigma_found", ".1f") for scores in by_sigma)


def _grey_against_colour(tree: Document, method: str, sigma: int) -> tuple[str, str]:
    """(PSNR of the grey versions, its difference from the colour images), of images that are in colour."""
    colour_files = {image["file"] for image in tree["images"] if image["is_colour"]}
    grey, colour = (
        {s["file"]: s for s in at(tree["scores"], method, "gaussian", sigma=sigma, is_grey=is_grey)}
        for is_grey in (True, False)
    )
    files = [file for file in grey if file in colour_files]
    own = _with_interval([grey[file] for file in files], "psnr_db")
    changes = [grey[file]["psnr_db"] - colour[file]["psnr_db"] for file in files if file in colour]
    return own, _interval_text(bootstrap_interval(changes), signed=True) if changes else _DASH


def _with_interval(scores: list[dict[str, Any]], key: str) -> str:
    return _interval_text(bootstrap_interval([score[key] for score in scores])) if scores else _DASH


def _interval_text(interval: Interval, *, signed: bool = False) -> str:
    form = "+.2f" if signed else ".2f"
    if interval.low is None or interval.high is None:
        return f"{interval.mean:{form}}"
    ends = ".2f" if signed else ".1f"
    return f"{interval.mean:{form}} ({interval.low:{ends}} to {interval.high:{ends}})"


def _mean(scores: list[dict[str, Any]], key: str, form: str) -> str:
    values = [score[key] for score in scores if score[key] is not None]
    return f"{float(np.mean(values)):{form}}" if values else _DASH


def _cost(value: float | None) -> str:
    if value is None:
        return _DASH
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
