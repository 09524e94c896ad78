"""Metrics and health over plain HTTP, for Prometheus and probes, and what else is given. Answers from state."""

from collections.abc import Callable, Iterable

from aiohttp import web

from service.metrics import Metrics

_EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_http_app(
    *,
    metrics: Metrics,
    is_ready: Callable[[], bool],
    stuck_lane_count: Callable[[], int],
    further: Iterable[web.RouteDef] = (),
) -> web.Application:
    """``/metrics``; ``/healthz`` (the event loop turns, no lane hangs); ``/readyz`` (200 while requests are taken).

    A lane that hangs can't be mended from inside; a probe that fails gets the process restarted. ``further`` routes are
    served beside these.
    """

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": _EXPOSITION_TYPE})

    async def live(_: web.Request) -> web.Response:
        if count := stuck_lane_count():
            return web.Response(status=503, text=f"{count} lanes hang\n")
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if is_ready() else web.Response(status=503, text="not ready\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", exposition), web.get("/healthz", live), web.get("/readyz", ready), *further])
    return app


class HttpServer:
    """The application on a port."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which was chosen by the system when ``port`` is 0."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound_port: int = self._runner.addresses[0][1]
        return bound_port

    async def stop(self) -> None:
        await self._runner.cleanup()
