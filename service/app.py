"""The composition root: builds every part, starts them in order, and stops them in order."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from denoised.v1 import denoised_pb2_grpc
from service.admission import Admission, Limits
from service.batcher import Batcher
from service.cpu import usable_core_count
from service.engine import EngineOptions
from service.http import HttpServer, build_http_app
from service.lifecycle import InFlight, Lifecycle, State
from service.metrics import Metrics
from service.pipeline import CodecPool, Denoiser
from service.registry import Registry, load_models, warm_up
from service.rpc import SERVICE_NAME, DenoiseServicer, RpcLimits
from service.scheduler import Scheduler
from service.settings import Settings
from service.status import StatusInterceptor

_log = structlog.get_logger()

# A name of its own, so that NOT_SERVING while draining takes the pod out of rotation without restarting it.
LIVE_SERVICE: Final = "live"
# Answers are handed to gRPC before they are on the wire; this is for the wire.
_LAST_BYTES_S: Final = 2.0
_KEEPALIVE_S: Final = 30
_KEEPALIVE_TIMEOUT_S: Final = 10
# Half of the shortest keepalive that clients are told to use, so that none is sent away for pinging.
_LEAST_PING_INTERVAL_S: Final = 10


class StartFailed(Exception):
    """The service can't run where it was told to; the message says which setting to change."""


class Service:
    """All parts of a running service."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        cores = usable_core_count()
        self._settings = settings
        self._registry_of_metrics = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry_of_metrics)
        self._metrics = Metrics(self._registry_of_metrics)
        self._lifecycle = Lifecycle()
        self._in_flight = InFlight()
        self._clock = clock
        lane_count = settings.lane_count or max(1, cores // settings.threads_per_lane)
        self._engine_options = EngineOptions(lane_count, settings.threads_per_lane)
        self._lanes = ThreadPoolExecutor(lane_count, thread_name_prefix="lane")
        self._codecs = CodecPool(settings.codec_threads or cores)
        self._batcher = Batcher(
            Scheduler(limit_pixel_count=settings.queue_pixels),
            lane_count=lane_count,
            batch_pixel_count=settings.batch_pixels,
            executor=self._lanes,
            clock=clock,
            metrics=self._metrics,
        )
        self._health = health.aio.HealthServicer()
        self._http = HttpServer(
            build_http_app(metrics=self._metrics, is_ready=lambda: self._lifecycle.state is State.SERVING)
        )
        self._server: grpc.aio.Server | None = None
        self._models: Registry | None = None

    async def start(self) -> tuple[int, int]:
        """Opens the ports, loads and warms the models; returns (gRPC port, HTTP port) once requests are taken.

        The ports open first, so that health says NOT_SERVING and calls get UNAVAILABLE while models load.

        Raises:
            ModelRefused: a model can't be served.
            StartFailed: a port is taken, or the file that would say which ones are used can't be written.
        """
        self._show(State.STARTING)
        settings = self._settings
        try:
            http_port = await self._http.start(settings.http_host, settings.http_port)
        except OSError as error:
            raise StartFailed(
                f"HTTP can't listen on {settings.http_host}:{settings.http_port}: {error.strerror or error}; "
                "set DENOISED_HTTP_HOST and DENOISED_HTTP_PORT to an address and a port that are free"
            ) from error
        server = self._server = self._build_server()
        # The health servicer starts out SERVING: say otherwise before the port opens.
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            grpc_port = server.add_insecure_port(f"{settings.grpc_host}:{settings.grpc_port}")
        except RuntimeError as error:
            raise StartFailed(
                f"gRPC can't listen on {settings.grpc_host}:{settings.grpc_port}; "
                "set DENOISED_GRPC_HOST and DENOISED_GRPC_PORT to an address and a port that are free"
            ) from error
        await server.start()
        self._models = await self._load()
        self._enter(State.SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", grpc_port=grpc_port, http_port=http_port, lanes=self._engine_options.lane_count)
        if settings.ports_file is not None:
            _write_ports(settings.ports_file, grpc_port=grpc_port, http_port=http_port)
        return grpc_port, http_port

    async def stop(self) -> None:
        """Refuses new calls, answers those that were taken, closes everything. Legal at any time after ``start``.

        In this order:
        1. health says NOT_SERVING, and new calls and stream items get UNAVAILABLE;
        2. wait for endpoints to change, then for everything that was taken to be answered;
        3. close the port, which ends calls that never end by themselves (health watches, idle streams);
        4. wait for the lanes, close threads and HTTP.
        """
        if self._lifecycle.state is State.SERVING:
            self._enter(State.DRAINING)
            _log.info("draining")
            await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
            await asyncio.sleep(self._settings.drain_delay_s)
            if not await self._in_flight.wait_idle(self._settings.drain_timeout_s):
                _log.warning("some requests were not answered in time", drain_timeout_s=self._settings.drain_timeout_s)
        if self._server is not None:
            await self._server.stop(_LAST_BYTES_S)
        await self._batcher.idle()
        self._lanes.shutdown()
        self._codecs.close()
        await self._http.stop()
        self._enter(State.STOPPED)
        _log.info("stopped")

    async def _load(self) -> Registry:
        """Loads models and warms them, off the event loop, so that health is answered meanwhile."""
        loop = asyncio.get_running_loop()
        models = await loop.run_in_executor(self._lanes, load_models, self._settings.models_dir, self._engine_options)
        registry = Registry(models, default_name=self._settings.default_model)
        for model in models:
            await asyncio.gather(
                *(
                    loop.run_in_executor(self._lanes, warm_up, model, lane)
                    for lane in range(self._engine_options.lane_count)
                )
            )
            self._batcher.add_engine(model.key, model.engine)
            self._metrics.model_info.labels(*model.key, model.digest).set(1)
            _log.info("model ready", model=model.contract.name, version=model.contract.version, digest=model.digest)
        return registry

    def _build_server(self) -> grpc.aio.Server:
        settings = self._settings
        denoiser = Denoiser(
            batcher=self._batcher,
            admission=Admission(
                Limits(settings.image_pixels, settings.queue_requests, settings.memory_bytes), self._metrics
            ),
            codecs=self._codecs,
            clock=self._clock,
            metrics=self._metrics,
        )
        servicer = DenoiseServicer(
            denoiser=denoiser,
            registry=self._registry,
            limits=RpcLimits(
                default_timeout_s=settings.default_timeout_s,
                message_bytes=settings.message_bytes,
                image_pixels=settings.image_pixels,
                batch_image_count=settings.batch_image_count,
                stream_items_in_flight=settings.stream_items_in_flight,
            ),
            lifecycle=self._lifecycle,
            in_flight=self._in_flight,
            clock=self._clock,
            metrics=self._metrics,
        )
        interceptor = StatusInterceptor(
            lifecycle=self._lifecycle,
            in_flight=self._in_flight,
            metrics=self._metrics,
            service_prefix=f"/{SERVICE_NAME}/",
        )
        server = grpc.aio.server(interceptors=[interceptor], options=_channel_options(settings))
        register = denoised_pb2_grpc.add_DenoiseServiceServicer_to_server
        register(servicer, server)  # type: ignore[no-untyped-call]  # generated
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            reflection.enable_server_reflection([SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        return server

    def _registry(self) -> Registry:
        """The loaded models; only asked for while serving, because the interceptor refuses calls before that."""
        assert self._models is not None
        return self._models

    async def _set_health(self, status: int) -> None:
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)
        await self._health.set(LIVE_SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def _enter(self, state: State) -> None:
        self._lifecycle.enter(state)
        self._show(state)

    def _show(self, current: State) -> None:
        for state in State:
            self._metrics.state.labels(state.value).set(1 if state is current else 0)


async def serve(settings: Settings, *, shutdown: asyncio.Event) -> None:
    """Runs the service until ``shutdown`` is set, then drains it."""
    service = Service(settings)
    try:
        await service.start()
        await shutdown.wait()
    finally:
        await service.stop()


def _channel_options(settings: Settings) -> list[tuple[str, int]]:
    def milliseconds(seconds: float) -> int:
        return int(seconds * 1000)

    return [
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", settings.message_bytes),
        ("grpc.max_concurrent_streams", settings.concurrent_streams),
        ("grpc.max_connection_age_ms", milliseconds(settings.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", milliseconds(settings.drain_timeout_s)),
        ("grpc.keepalive_time_ms", milliseconds(_KEEPALIVE_S)),
        ("grpc.keepalive_timeout_ms", milliseconds(_KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", milliseconds(_LEAST_PING_INTERVAL_S)),
        ("grpc.so_reuseport", 0),
    ]


def _write_ports(path: Path, *, grpc_port: int, http_port: int) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps({"grpc_port": grpc_port, "http_port": http_port}), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StartFailed(
            f"the ports can't be written to {path}: {error.strerror}; set DENOISED_PORTS_FILE to a file in a folder "
            "that exists, or leave it unset"
        ) from error
