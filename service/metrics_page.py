"""The page that lists every metric: type, labels, unit, meaning, and what a person on call reads from it.

Made from the metrics themselves, so that it can't say anything else than they do:
``python -m service --print-metrics > docs/metrics.md``.
"""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from service.metrics import Metrics

_HEAD: Final = """\
# Metrics

Made by `python -m service --print-metrics`. Prometheus scrapes them from `/metrics` on port 8081; the process's own
(`process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds`) and Python's (`python_gc_*`) are
there as well.

A histogram's samples end in `_bucket`, `_sum` and `_count`; its 99th percentile is
`histogram_quantile(0.99, sum by (le) (rate(NAME_bucket[5m])))`. Label values come from closed sets: none is anything
that a client sent. Series of known label values are there from the start, with 0.

| metric | type | labels | unit | what it is | what to read from it |
|---|---|---|---|---|---|
"""
_UNITS: Final = ("seconds", "bytes", "pixels", "levels")

READINGS: Final[Mapping[str, str]] = {
    "denoised_requests_total": "Traffic and its errors. INTERNAL is ours; RESOURCE_EXHAUSTED is load; "
    "INVALID_ARGUMENT is a client.",
    "denoised_refusals_total": "Why: QUEUE_FULL and DEADLINE_UNREACHABLE mean too little capacity, MEMORY_BUDGET too "
    "large images at once or readers that are slow, NETWORK_HUNG a broken network or machine.",
    "denoised_images_total": "Throughput by network; falls to 0 for a network that nobody asks for any more.",
    "denoised_latent_images_total": "Which models' codes are used, and how: `Generate` and `Interpolate` count the "
    "images that they make.",
    "denoised_pixels_total": "Throughput in what costs; compare with `denoised_computed_pixels_total`.",
    "denoised_halo_pixels_total": "Divided by `denoised_computed_pixels_total`: the share that tiles cost. High: "
    "images just larger than a unit.",
    "denoised_padding_pixels_total": "Divided likewise: the share that is lost to sizes between those of the units.",
    "denoised_image_pixels": "Whether the mix has changed: larger images explain longer times.",
    "denoised_noise_sigma_levels": "Drift: a median that moves, or that leaves the network's range, means other "
    "cameras or other gains than it was made for.",
    "denoised_energy_reports_total": "How many images the next two stand for; without any, nobody looks at drift. "
    "Level `failed` is a bug: these images were answered without a report, and the log says why.",
    "denoised_energy_verdicts_total": "What is the matter with images; see docs/energy.md for what to do about each.",
    "denoised_energy_quantile": "Drift: flat for images like those that a model was made for. More than a tenth of an "
    "hour's images below 0.01 or above 0.99 in any statistic fires DenoisedInputDrift; see docs/runbook.md.",
    "denoised_energy_report_seconds": "Above 0.003 at the median: codec threads are busy, not reports slow.",
    "denoised_stage_seconds": "Where time goes. `admission` is from its arrival until it is offered to a "
    "codec or the queue; `queue` grows with load, `compute` with a slow machine or larger "
    "images, `decode` and `encode` with files and busy codec threads.",
    "denoised_offered_work_seconds_total": "Demand: the rate over both verdicts, divided by lanes, above 1 means that "
    "more replicas are needed. The autoscaler's signal.",
    "denoised_admitted_images": "Never falls to 0 without traffic: a leak of calls.",
    "denoised_reserved_bytes": "Near its limit while `denoised_pending_images` is low: clients do not read their "
    "answers.",
    "denoised_reserved_bytes_limit": "To divide by.",
    "denoised_pending_images": "Near its limit: QUEUE_FULL follows.",
    "denoised_pending_images_limit": "To divide by.",
    "denoised_pending_bytes": "As above, for many bytes.",
    "denoised_pending_bytes_limit": "To divide by.",
    "denoised_pending_pixels": "As above, for few large images.",
    "denoised_pending_pixels_limit": "To divide by.",
    "denoised_queued_pixels": "Work that waits; 0 with busy lanes is a healthy full service.",
    "denoised_queued_units": "The same in tiles. An image queues a few at a time, so this is not all of its work.",
    "denoised_queued_work_seconds": "All work that waits, of images that have not queued it yet as well; divided by "
    "lanes it is the time that a newcomer waits.",
    "denoised_queued_clients": "How many share what the lanes do.",
    "denoised_largest_client_work_seconds": "Divided by `denoised_queued_work_seconds`: near 1 with several queued "
    "clients is one greedy client. Fairness keeps the others' waits short; the queue's caps do not.",
    "denoised_units_dropped_total": "`expired` means deadlines shorter than the queue, `cancelled` clients that go, "
    "`failed` images that broke.",
    "denoised_batch_units": "How well small images are put together; large ones are batches of one.",
    "denoised_batch_requests": "Whether batches are shared at all; always 1 at full load means that images are large.",
    "denoised_batch_clients": "Whether several clients share them; 1 with many clients is a hint at one greedy one.",
    "denoised_batch_fill": "1 is a full budget. Low at full load: many unlike shapes or networks.",
    "denoised_batch_wait_seconds": "Above 0.005 at the 99th percentile: lanes' threads wake late, so too little CPU. "
    "Nothing waits for a batch to fill.",
    "denoised_batch_seconds": "A slow network or machine, without any waiting in it.",
    "denoised_batch_stitch_seconds": "Part of `denoised_batch_seconds`; a large share of it is slow memory, not a slow "
    "network. Small images that the event loop runs at rest are left out.",
    "denoised_batch_releases_total": "`full` grows under load; `alone` is a lone unit on an idle service.",
    "denoised_batch_failures_total": "Should not move. It does when single images make a network fail; refusals say "
    "how many.",
    "denoised_computed_pixels_total": "Divided by `denoised_pixels_total`: the extra work of halos and padding, 1.0 "
    "to 1.5.",
    "denoised_lanes": "Capacity: seconds of lane time in a second.",
    "denoised_busy_lanes": "All busy with nothing queued is the most that can be had.",
    "denoised_stuck_lanes": "Above 0: a network hangs, and `/healthz` fails.",
    "denoised_lane_busy_seconds_total": "Utilisation: its rate divided by lanes. `wide` has all cores, `loop` is small "
    "images that the event loop runs itself.",
    "denoised_codec_jobs_queued": "Waiting for codec threads while lanes are idle: files, not networks, are the "
    "bottleneck.",
    "denoised_codec_jobs_busy": "As many as codec threads: they are all at work.",
    "denoised_codec_threads": "To divide by: those for small and those for large images.",
    "denoised_codec_busy_seconds_total": "Utilisation: its rate divided by `denoised_codec_threads`.",
    "denoised_codec_wait_seconds": "Rises before `decode` and `encode` do: too few codec threads, or one client's "
    "large files.",
    "denoised_loop_lag_seconds": "Above 0.05 at the 99th percentile: everything is late, health checks too; "
    "too little CPU, or something blocks the event loop.",
    "denoised_model_info": "Which networks, by digest: two digests of one version among replicas is a bad roll-out.",
    "denoised_model_memory_bytes": "What each network added at load; the first one pays for the shared arena.",
    "denoised_model_share": "Which version is stable (1, or the rest), and which is the canary.",
    "denoised_reloads_total": "`refused` above 0: a certificate, a file of callers or a model was not taken, and the "
    "log says why; what was there before goes on.",
    "denoised_state": "`serving` is 1 when it takes requests; `draining` for long: a call that does not end.",
}


def metrics_page() -> str:
    """The page in Markdown.

    Raises:
        KeyError: a metric has no reading.
    """
    described = Metrics(CollectorRegistry()).descriptions
    return _HEAD + "".join(
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels) or '-'} "
        f"| {_unit(each.name)} | {each.text} | {READINGS[each.name]} |\n"
        for each in described
    )


def _unit(name: str) -> str:
    words = name.removesuffix("_total").removesuffix("_limit").split("_")
    return words[-1] if words[-1] in _UNITS else "1"
