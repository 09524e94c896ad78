"""A fitted noise as people use it: a table, a section of a config, a picture."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Final

import numpy as np

from denoised.noise import LEVELS_8BIT, NoiseSpec, Stage
from training.noise.fit import NoiseFit

_SIGNALS: Final = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)


def noise_section(spec: NoiseSpec) -> str:
    """The ``[noise]`` section of a config, as TOML; defaults are left out, but for the policy of clipping."""
    lines = ["[noise]", *_assignments(spec, always=("clip", "quantise"))]
    for stage in spec.stages:
        lines += ["", "[[noise.stages]]", f'kind = "{stage.kind}"', *_assignments(stage)]
    return "\n".join(lines) + "\n"


def fit_table(fit: NoiseFit) -> str:
    """The two numbers in the units that people know them in, how sure they are, and what noise they make."""
    white = fit.levels.white - fit.levels.black
    per_level = white / LEVELS_8BIT
    rows = [
        (
            "gain",
            f"{fit.gain:.3g} +- {fit.gain_error:.1g}",
            f"{fit.gain * white:.3g} sample values for each electron"
            + (f", {1 / fit.gain:,.0f} electrons make white" if fit.has_gain else "; none beyond chance"),
        ),
        (
            "read noise",
            f"{fit.read_sigma:.3g} +- {fit.read_sigma_error:.1g}",
            f"8-bit levels; {fit.read_sigma * per_level:.3g} sample values",
        ),
        ("correlation", f"{fit.correlation:.2f}", "of adjacent pixels; 0 for raw data"),
    ]
    width = max(len(value) for _, value, _ in rows)
    lines = [f"{name:<12} {value:<{width}}  {meaning}" for name, value, meaning in rows]
    lines += ["", f"{'signal':>12} {'sigma, 8-bit levels':>20} {'signal to noise':>16}"]
    for signal in _SIGNALS:
        sigma = fit.sigma_at(signal)
        ratio = f"{signal * LEVELS_8BIT / sigma:.1f}" if sigma > 0 else "-"
        lines.append(f"{signal:>12.0%} {sigma:>20.2f} {ratio:>16}")
    if fit.dark_level is not None:
        below = fit.dark_level - fit.levels.black
        lines += [
            "",
            f"black is {fit.levels.black:g}, but the noise ends at {fit.dark_level:.4g}: the camera's dark level lies",
            f"about {below:.3g} sample values above black, and read noise can't be told. Give the mean of a dark frame",
            "as --black.",
        ]
    return "\n".join(lines)


def draw_fit(fit: NoiseFit, path: Path) -> None:
    """Variance against mean, with the line, as PNG or SVG by the path's suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    means, variances, errors = (
        np.array([getattr(each, name) for each in fit.bins]) for name in ("mean", "variance", "error")
    )
    axes.errorbar(means, variances, yerr=2 * errors, fmt="o", markersize=3, linewidth=1, label="blocks, 2 errors")
    ends = np.array([0.0, 1.0])
    start = (fit.read_sigma / LEVELS_8BIT) ** 2
    if fit.dark_level is not None:
        start = -fit.gain * (fit.dark_level - fit.levels.black) / (fit.levels.white - fit.levels.black)
    axes.plot(ends, start + fit.gain * ends, label=f"{fit.gain:.3g} x signal {start:+.3g}")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("signal, black 0 to white 1")
    axes.set_ylabel("variance of the noise")
    axes.set_title(f"Noise of {fit.image_count} images, from {fit.method}")
    axes.legend()
    figure.savefig(path, dpi=150)


def _assignments(values: NoiseSpec | Stage, always: tuple[str, ...] = ()) -> list[str]:
    # Numbers, truth values and plain strings are written alike in JSON and TOML.
    return [
        f"{field.name} = {json.dumps(getattr(values, field.name))}"
        for field in fields(values)
        if field.name in always
        or (field.name not in ("kind", "stages") and getattr(values, field.name) != field.default)
    ]
