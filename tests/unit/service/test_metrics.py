"""Metrics: what is scraped, from the first moment on, and nothing that can't be added up over replicas."""

import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.errors import all_reasons
from service.metrics import Drop, Lane, Metrics, Release, Stage, Verdict


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}


def test_every_metric_has_our_prefix_and_a_help_text(metrics: Metrics) -> None:
    found = families(metrics)
    assert len(found) > 15
    for name, family in found.items():
        assert name.startswith("denoised_")
        assert family.documentation.endswith("."), name


def test_there_are_no_summaries_because_they_cannot_be_added_up(metrics: Metrics) -> None:
    assert {family.type for family in families(metrics).values()} == {"counter", "gauge", "histogram"}


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        ("denoised_stage_seconds", "stage", [stage.value for stage in Stage]),
        ("denoised_batch_releases", "reason", [release.value for release in Release]),
        ("denoised_units_dropped", "reason", [drop.value for drop in Drop]),
        ("denoised_lane_busy_seconds", "lane", [lane.value for lane in Lane]),
        ("denoised_offered_work_seconds", "verdict", [verdict.value for verdict in Verdict]),
        ("denoised_refusals", "reason", list(all_reasons())),
    ],
)
def test_every_series_that_can_be_foreseen_is_there_from_the_start(
    name: str, label: str, values: list[str], metrics: Metrics
) -> None:
    """A rate over a series that appears with its first event misses that event."""
    samples = families(metrics)[name].samples
    assert {sample.labels[label] for sample in samples} == set(values)
    assert {sample.value for sample in samples} == {0}


def test_nothing_is_exposed_that_older_parsers_would_not_know(metrics: Metrics) -> None:
    names = {sample.name for family in families(metrics).values() for sample in family.samples}
    assert not [name for name in names if name.endswith("_created")]


@pytest.mark.parametrize(
    "name",
    [
        "denoised_batch_seconds",
        "denoised_stage_seconds",
        "denoised_batch_units",
        "denoised_image_pixels",
        "denoised_noise_sigma_levels",
        "denoised_batch_fill",
        "denoised_loop_lag_seconds",
    ],
)
def test_buckets_ascend(metrics: Metrics, name: str) -> None:
    bounds = [
        float(sample.labels["le"])
        for sample in families(metrics)[name].samples
        if sample.name.endswith("_bucket") and sample.labels.get("stage", "total") == "total"
    ]
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == float("inf")


def test_an_observation_lands_in_its_bucket(metrics: Metrics) -> None:
    metrics.stage_seconds[Stage.DECODE].observe(0.004)
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families(metrics)["denoised_stage_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["stage"] == "decode"
    }
    assert (buckets["0.0025"], buckets["0.005"]) == (0, 1)


def test_each_service_has_metrics_of_its_own() -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    first, _ = (Metrics(registry) for registry in registries)
    first.pixels.inc(7)
    assert [registry.get_sample_value("denoised_pixels_total") for registry in registries] == [7, 0]


def test_prometheus_own_linter_finds_nothing(metrics: Metrics) -> None:
    """Names, types, units and help texts, by the conventions that dashboards and exporters share."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it is part of Debian's package prometheus")
    metrics.requests["Denoise", "OK"].inc()
    metrics.images["name", "1"].inc()
    metrics.model_info["name", "1", "digest"].set(1)
    metrics.model_memory_bytes["name", "1"].set(1)
    metrics.state["serving"].set(1)
    found = subprocess.run([promtool, "check", "metrics"], input=metrics.exposition(), capture_output=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, b"")
