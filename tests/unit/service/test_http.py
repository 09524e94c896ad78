"""Metrics and health over a real socket on a port that the system chose."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.http import HttpServer, build_http_app
from service.lifecycle import Lifecycle, State
from service.metrics import Metrics


@asynccontextmanager
async def listening(
    metrics: Metrics,
    is_ready: Callable[[], bool] = lambda: True,
    stuck_lane_count: Callable[[], int] = lambda: 0,
) -> AsyncIterator[str]:
    """The server's address while it listens."""
    app = build_http_app(metrics=metrics, is_ready=is_ready, stuck_lane_count=stuck_lane_count)
    server = HttpServer(app)
    port = await server.start("127.0.0.1", 0)
    assert port > 0
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


async def get(url: str) -> tuple[int, str, str]:
    """(status, content type, text)."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_prometheus_gets_its_own_format(metrics: Metrics) -> None:
    metrics.pixels.inc(42)
    async with listening(metrics) as address:
        status, content_type, text = await get(address + "/metrics")
    assert status == 200
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    values = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    assert values["denoised_pixels_total"] == 42


async def test_every_scrape_shows_the_present(metrics: Metrics) -> None:
    queued_count = 0
    metrics.queued_units.follow(lambda: queued_count)
    async with listening(metrics) as address:
        before = await get(address + "/metrics")
        queued_count = 5
        after = await get(address + "/metrics")
    assert "denoised_queued_units 0.0" in before[2]
    assert "denoised_queued_units 5.0" in after[2]


async def test_readiness_follows_the_service_and_liveness_does_not(metrics: Metrics) -> None:
    lifecycle = Lifecycle()
    answers = []
    async with listening(metrics, lambda: lifecycle.state is State.SERVING) as address:
        for state in (None, State.SERVING, State.DRAINING):
            if state is not None:
                lifecycle.enter(state)
            answers.append(((await get(address + "/readyz"))[0], (await get(address + "/healthz"))[0]))
    assert answers == [(503, 200), (200, 200), (503, 200)]


async def test_a_process_whose_lane_hangs_is_not_alive_until_it_comes_back(metrics: Metrics) -> None:
    """The probe that fails gets it restarted; readiness is another matter, other lanes may serve."""
    counts = iter([0, 2, 0])
    async with listening(metrics, stuck_lane_count=lambda: next(counts)) as address:
        answers = [await get(address + "/healthz") for _ in range(3)]
        assert (await get(address + "/readyz"))[0] == 200
    assert [status for status, _, _ in answers] == [200, 503, 200]
    assert "2 lanes hang" in answers[1][2]


@pytest.mark.parametrize("path", ["/", "/metrics/", "/debug"])
async def test_there_is_nothing_else(metrics: Metrics, path: str) -> None:
    async with listening(metrics) as address:
        assert (await get(address + path))[0] == 404


async def test_nothing_listens_after_the_stop(metrics: Metrics) -> None:
    async with listening(metrics) as address:
        pass
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(address + "/healthz")


async def test_a_taken_port_is_an_error_of_the_system(metrics: Metrics) -> None:
    async with listening(metrics) as address:
        second = HttpServer(build_http_app(metrics=metrics, is_ready=lambda: True, stuck_lane_count=lambda: 0))
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", int(address.rsplit(":", 1)[1]))
        await second.stop()
