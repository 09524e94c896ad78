"""One self-contained HTML page about a run, or about one of its evaluations.

Nothing is measured here: the page shows the run's config, log, scores and pictures as they lie in its directory. The
layout is ``report.html.jinja``'s, the looks ``report.css``'s, both beside this module; everything is inlined, and the
page asks nothing of any network.
"""

import json
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from denoised._files import write_whole
from training.config import RunConfig
from training.evaluation.estimates import NoReference
from training.evaluation.scores import Evaluation
from training.evaluation.store import load_estimates, load_evaluations
from training.evaluation.views import estimates_view, evaluation_view, training_curves
from training.run.directory import RunDir
from training.run.log import read_log


def write_run_report(run_dir: RunDir, path: Path | None = None) -> Path:
    """The page of a run: config, training curves, and all evaluations.

    Raises:
        RunError: there is no run.
        DataError: a file of scores or a picture is damaged or missing.
    """
    config = run_dir.load_config()
    views = [evaluation_view(run_dir, evaluation) for evaluation in load_evaluations(run_dir)]
    estimates = [estimates_view(run_dir, found) for found in load_estimates(run_dir)]
    target = path or run_dir.report_path
    _write(
        target, run_dir, config, title=config.name, views=views, estimates=estimates, curves=training_curves(run_dir)
    )
    return target


def write_evaluation_report(run_dir: RunDir, found: Evaluation | NoReference) -> Path:
    """The page of one evaluation, beside its scores."""
    config = run_dir.load_config()
    title = f"{config.name} on {found.image_set}"
    if isinstance(found, Evaluation):
        target = run_dir.evaluations_path / f"{found.stem}.html"
        _write(target, run_dir, config, title=title, views=[evaluation_view(run_dir, found)], estimates=[], curves=())
    else:
        target = run_dir.estimates_path / f"{found.stem}.html"
        _write(target, run_dir, config, title=title, views=[], estimates=[estimates_view(run_dir, found)], curves=())
    return target


def render(template: str, **values: object) -> str:
    """A page from a template beside this module; everything in it is escaped unless it is markup of ours."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = Markup(_asset("report.css"))  # noqa: S704 -- our own file
    return environment.from_string(_asset(template)).render(style=style, **values)


def _write(target: Path, run_dir: RunDir, config: RunConfig, *, title: str, **values: object) -> None:
    facts = _facts(run_dir, config)
    page = render(
        "report.html.jinja",
        title=title,
        config=config,
        config_json=json.dumps(json.loads(config.to_json()), indent=2),
        facts=facts,
        **values,
    )
    write_whole(target, page.encode())


def _facts(run_dir: RunDir, config: RunConfig) -> list[tuple[str, str]]:
    """What the header says about a run; each section says which of its weights were measured."""
    records = read_log(run_dir.log_path)
    return [
        ("Network", config.network.kind),
        ("Code", "none: skips go round it" if config.network.code_length is None else str(config.network.code_length)),
        ("Noise", ", then ".join(stage.kind for stage in config.noise.stages) or "as it is in the data"),
        ("Supervision", config.data.supervision),
        (
            "Steps",
            f"{records[-1]['step']:,} of {config.optimiser.steps:,}" if records else f"{config.optimiser.steps:,}",
        ),
        ("Batch", f"{config.data.batch_size * config.optimiser.accumulation} x {config.data.crop_px} px"),
        ("Seed", str(config.seed)),
    ]


def _asset(name: str) -> str:
    return (files("training.evaluation") / name).read_text(encoding="utf-8")
