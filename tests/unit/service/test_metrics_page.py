"""The page of metrics: it is what the registry says, complete, with something to read from each."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from service.metrics_page import READINGS, metrics_page

_PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_committed_page_is_what_the_generator_writes() -> None:
    assert _PAGE.read_text(encoding="utf-8") == metrics_page(), (
        "run: python -m service --print-metrics > docs/metrics.md"
    )


def test_every_metric_of_the_registry_has_a_row_with_its_type_and_its_labels() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    # Families without known children have samples, and so labels, only once something was counted.
    metrics.requests["Denoise", "OK"].inc()
    metrics.images["name", "1"].inc()
    metrics.model_info["name", "1", "digest"].set(1)
    metrics.model_memory_bytes["name", "1"].set(1)
    metrics.model_share["name", "1"].set(1)
    metrics.latent_images["name", "1", "Encode"].inc()
    metrics.state["serving"].set(1)
    metrics.energy_reports["name", "1", "fast"].inc()
    metrics.energy_verdicts["name", "1", "OK"].inc()
    metrics.energy_quantiles["name", "1", "tail_score"].observe(0.5)
    shown = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = [label for label in family.samples[0].labels if label != "le"]
        shown[name] = (family.type, labels)
    listed = {}
    for line in metrics_page().splitlines():
        if line.startswith("| `"):
            name, kind, labels_text, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            listed[name.strip("`")] = (kind, [each.strip("` ") for each in labels_text.split(",") if each != "-"])
    assert listed == shown


def test_what_is_to_be_read_is_said_of_metrics_that_exist_and_of_no_others() -> None:
    assert list(READINGS) == [each.name for each in Metrics(CollectorRegistry()).descriptions]
    assert all(READINGS.values())


def test_units_are_what_the_names_end_in() -> None:
    units = {line.split("|")[1].strip(" `"): line.split("|")[4].strip() for line in metrics_page().splitlines()[13:]}
    assert units["denoised_stage_seconds"] == "seconds"
    assert units["denoised_reserved_bytes_limit"] == "bytes"
    assert units["denoised_offered_work_seconds_total"] == "seconds"
    assert units["denoised_noise_sigma_levels"] == "levels"
    assert units["denoised_lanes"] == "1"
