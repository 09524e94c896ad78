"""Metrics: what is scraped, from the first moment on, and nothing that can't be added up over replicas."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics, Release, Stage


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


def test_every_stage_and_every_release_is_there_before_the_first_image(metrics: Metrics) -> None:
    """A rate over a series that appears with its first event misses that event."""
    found = families(metrics)
    stages = {sample.labels["stage"] for sample in found["denoised_stage_seconds"].samples}
    assert stages == {stage.value for stage in Stage}
    releases = found["denoised_batch_releases"].samples
    assert {sample.labels["reason"]: sample.value for sample in releases if sample.name.endswith("_total")} == {
        release.value: 0 for release in Release
    }


@pytest.mark.parametrize(
    "name",
    [
        "denoised_batch_seconds",
        "denoised_stage_seconds",
        "denoised_batch_units",
        "denoised_image_pixels",
        "denoised_noise_sigma_levels",
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
    metrics.stage_seconds.labels(Stage.DECODE.value).observe(0.004)
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
