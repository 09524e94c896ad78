"""The composition root: builds every part, starts them in order, and stops them in order."""

import asyncio
import gc
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

from denoised.contract import DECODER_FILE, ENCODER_FILE
from service.admin import admin_routes
from service.admission import Admission, Limits
from service.batcher import Batcher, BatcherOptions
from service.codec_pool import CodecPool
from service.cost import CostModel, ModelCost
from service.cpu import usable_core_count
from service.deadlines import Deadlines
from service.engine import EngineOptions, TimedBatch
from service.engine_settings import engine_options_of
from service.http import HttpServer, build_http_app
from service.latent.coder import Coder
from service.latent.messages import Limits as LatentLimits
from service.latent.methods import LatentMethods
from service.lifecycle import InFlight, Lifecycle, State
from service.metrics import Metrics
from service.pipeline import Denoiser
from service.profile import Profile, read_profile
from service.registry import Model, Registry, load_models
from service.reload import Reloader, ReloadOptions
from service.report import ReportBudget
from service.rpc import SERVICE_NAME, DenoiseMethods, RpcLimits
from service.scheduler import Scheduler
from service.security import Security
from service.settings import Settings
from service.status import Calls
from service.types import ServiceClass

_log = structlog.get_logger()

# A name of its own, so that NOT_SERVING while draining takes the pod out of rotation without restarting it.
LIVE_SERVICE: Final = "live"
# Answers are handed to gRPC before they are on the wire; this is for the wire.
_COLLECT_EVERY: Final = 20_000
LAST_BYTES_S: Final = 2.0
# Calls are over by then, so lanes have at most a batch each; one that hangs must not keep the process.
LAST_BATCHES_S: Final = 10.0
_KEEPALIVE_S: Final = 30
_KEEPALIVE_TIMEOUT_S: Final = 10
# Half of the shortest keepalive that clients are told to use, so that none is sent away for pinging.
_LEAST_PING_INTERVAL_S: Final = 10


class StartFailed(Exception):
    """The service can't run where it was told to; the message says which setting to change."""


class Service:
    """All parts of a running service."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ProfileRefused, CertificateRefused or CallersRefused: a file that a setting names can't be used."""
        self._settings = settings
        self._registry_of_metrics = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry_of_metrics)
        self._metrics = Metrics(self._registry_of_metrics)
        self._lifecycle = Lifecycle()
        self._in_flight = InFlight()
        self._clock = clock
        self._engine_options = engine_options_of(settings)
        self._profile = _profile_for(settings, self._engine_options)
        self._costs = CostModel() if self._profile is None else CostModel(first_spread=self._profile.spread())
        self._codecs = CodecPool(
            thread_count=settings.codec_threads or usable_core_count(), clock=clock, metrics=self._metrics
        )
        self._batcher = Batcher(
            Scheduler(
                quantum_s=settings.fairness_quantum_s,
                weights={
                    ServiceClass.INTERACTIVE: settings.interactive_weight,
                    ServiceClass.NORMAL: settings.normal_weight,
                    ServiceClass.BULK: settings.bulk_weight,
                },
            ),
            lane_count=self._engine_options.lane_count,
            options=BatcherOptions(
                batch_pixels=settings.batch_pixels,
                batch_units=settings.batch_units,
                staged_units_per_image=settings.staged_units_per_image,
                wide_units=settings.wide_units and self._engine_options.provider == "cpu",
                stuck_factor=settings.watchdog_factor,
                stuck_after_s=settings.stuck_after_s,
            ),
            costs=self._costs,
            clock=clock,
            metrics=self._metrics,
        )
        self._security = Security(settings, clock=clock, metrics=self._metrics)
        self._health = health.aio.HealthServicer()
        self._periodic: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None
        self._forget: list[Callable[[], None]] = []
        self._models = Reloader(
            settings.models_dir,
            default_name=settings.default_model,
            precision=settings.precision,
            name_pattern=settings.model_names,
            engine_options=self._engine_options,
            options=ReloadOptions(
                memory_bytes=settings.models_memory_bytes,
                slower_factor=settings.slower_model_factor,
                poll_s=settings.models_poll_s,
            ),
            add=self._add,
            remove=self._remove,
            swapped=self._swapped,
            metrics=self._metrics,
        )
        self._http = HttpServer(
            build_http_app(
                metrics=self._metrics,
                is_ready=lambda: self._lifecycle.state is State.SERVING,
                stuck_lane_count=lambda: self._batcher.stuck_lane_count,
                further=admin_routes(
                    self._models,
                    is_admin=self._security.is_admin,
                    is_ready=lambda: self._lifecycle.state is State.SERVING,
                ),
            )
        )

    async def start(self) -> tuple[int, int]:
        """Opens the ports, loads and warms the models; returns (gRPC port, HTTP port) once requests are taken.

        The ports open first, so that health says NOT_SERVING and calls get UNAVAILABLE while models load.

        Raises:
            ModelRefused: a model can't be served.
            ProfileRefused: the profile is not of the models in the store.
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
            grpc_port = self._security.listen(server, f"{settings.grpc_host}:{settings.grpc_port}")
        except RuntimeError as error:
            raise StartFailed(
                f"gRPC can't listen on {settings.grpc_host}:{settings.grpc_port}; "
                "set DENOISED_GRPC_HOST and DENOISED_GRPC_PORT to an address and a port that are free"
            ) from error
        await server.start()
        self._batcher.start()
        self._periodic += [asyncio.create_task(self._tick()), asyncio.create_task(self._security.watch())]
        self._models.begin(await self._load())
        self._periodic.append(asyncio.create_task(self._models.watch()))
        _spare_collector()
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
            await self._server.stop(LAST_BYTES_S)
        if not await self._batcher.idle(LAST_BATCHES_S):
            _log.error("a lane did not come back; its thread is left behind")
        self._batcher.close(LAST_BATCHES_S)
        self._codecs.close()
        for task in self._periodic:
            task.cancel()
        await self._http.stop()
        self._enter(State.STOPPED)
        _log.info("stopped")

    async def _load(self) -> list[Model]:
        """Loads models one by one, off the event loop, so that health is answered meanwhile and a stop is heard."""
        settings = self._settings
        loading = load_models(
            settings.models_dir,
            self._engine_options,
            precision=settings.precision,
            name_pattern=settings.model_names,
        )
        models = []
        loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        try:
            while (model := await asyncio.get_running_loop().run_in_executor(loader, next, loading, None)) is not None:
                models.append(model)
                self._add(model)
        finally:
            # Whoever stops does not wait here for the model at hand, which would hold up the event loop.
            loader.shutdown(wait=False)
        return models

    def _add(self, model: Model) -> None:
        self._costs.add_model(model.key, self._cost_of(model))
        self._batcher.add_engine(model.key, model.engine)
        if model.halves is not None:
            for key, half in ((model.encoder_key, model.halves.encoder), (model.decoder_key, model.halves.decoder)):
                self._costs.add_model(key, ModelCost(half.seconds / model.contract.fixed_side_px**2))
                self._batcher.add_engine(key, half)
        self._metrics.model_info[*model.key, model.digest].set(1)
        self._metrics.model_memory_bytes[model.key].set(model.resident_bytes)
        _log.info(
            "model ready",
            model=model.contract.name,
            version=model.contract.version,
            precision=model.contract.precision,
            digest=model.digest,
        )

    def _remove(self, key: tuple[str, str]) -> None:
        """Nothing uses it any more."""
        for each in (key, (*key, ENCODER_FILE), (*key, DECODER_FILE)):
            self._batcher.remove_engine(each)
            self._costs.forget(each)
        self._metrics.model_memory_bytes.pop(key, None)
        for labels in [labels for labels in self._metrics.model_info if labels[:2] == key]:
            del self._metrics.model_info[labels]

    def _swapped(self) -> None:
        """Other models are served."""
        for forget in self._forget:
            forget()

    def _cost_of(self, model: Model) -> ModelCost:
        """As measured before where there is a profile, else at the pace of its warm-up.

        A version that comes while the service runs can't be in the profile that it started with.
        """
        if self._profile is not None and self._lifecycle.state is State.STARTING:
            return self._profile.cost_of(model.key, model.digest)
        assert model.warm_batch is not None
        return ModelCost(_seconds_per_pixel(model.warm_batch))

    async def _tick(self) -> None:
        """Now and then: what is overdue ends, lanes that hang are found, and how late the event loop is is seen."""
        interval_s = self._settings.loop_lag_tick_s
        while True:
            due_s = self._clock() + interval_s
            await asyncio.sleep(interval_s)
            self._metrics.loop_lag_seconds.observe(max(0.0, self._clock() - due_s))
            self._batcher.tick()

    def _build_server(self) -> grpc.aio.Server:
        settings = self._settings
        admission = Admission(
            Limits(
                image_pixels=settings.image_pixels,
                chunked_image_pixels=settings.chunked_image_pixels,
                queue_requests=settings.queue_requests,
                queue_bytes=settings.queue_bytes,
                queue_pixels=settings.queue_pixels,
                memory_bytes=settings.memory_bytes,
            ),
            self._metrics,
        )
        deadlines = Deadlines(
            default_timeout_s=settings.default_timeout_s,
            longest_timeout_s=settings.longest_timeout_s,
            clock=self._clock,
        )
        denoiser = Denoiser(
            batcher=self._batcher,
            admission=admission,
            codecs=self._codecs,
            costs=self._costs,
            clock=self._clock,
            metrics=self._metrics,
            report_budget=ReportBudget(share=settings.report_share, one_in=settings.report_one_in),
        )
        methods = DenoiseMethods(
            denoiser=denoiser,
            registry=self._registry,
            limits=RpcLimits(
                default_timeout_s=settings.default_timeout_s,
                longest_timeout_s=settings.longest_timeout_s,
                message_bytes=settings.message_bytes,
                chunk_bytes=settings.chunk_bytes,
                image_pixels=settings.image_pixels,
                chunked_image_pixels=settings.chunked_image_pixels,
                batch_image_count=settings.batch_image_count,
                stream_items_in_flight=settings.stream_items_in_flight,
                generated_image_count=settings.generated_image_count,
                interpolation_step_count=settings.interpolation_step_count,
                report_one_in=settings.report_one_in,
            ),
            lifecycle=self._lifecycle,
            in_flight=self._in_flight,
            clients=self._security.clients,
            deadlines=deadlines,
            clock=self._clock,
            metrics=self._metrics,
        )
        latents = LatentMethods(
            coder=Coder(
                batcher=self._batcher,
                admission=admission,
                codecs=self._codecs,
                costs=self._costs,
                clock=self._clock,
                metrics=self._metrics,
            ),
            registry=self._registry,
            clients=self._security.clients,
            deadlines=deadlines,
            limits=LatentLimits(
                message_bytes=settings.message_bytes,
                generated_image_count=settings.generated_image_count,
                interpolation_step_count=settings.interpolation_step_count,
            ),
        )
        self._forget.append(methods.forget)
        calls = Calls(
            lifecycle=self._lifecycle,
            in_flight=self._in_flight,
            clients=self._security.clients,
            metrics=self._metrics,
        )
        server = grpc.aio.server(options=channel_options(settings))
        server.add_generic_rpc_handlers((methods.handler(calls), latents.handler(calls)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            reflection.enable_server_reflection([SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        return server

    def _registry(self) -> Registry:
        """The loaded models; only asked for while serving, because calls are refused before that."""
        return self._models.registry

    async def _set_health(self, status: int) -> None:
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)
        await self._health.set(LIVE_SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def _enter(self, state: State) -> None:
        self._lifecycle.enter(state)
        self._show(state)

    def _show(self, current: State) -> None:
        for state in State:
            self._metrics.state[state.value].set(1 if state is current else 0)


async def serve(settings: Settings, *, shutdown: asyncio.Event) -> None:
    """Runs the service until ``shutdown`` is set, then drains it."""
    service = Service(settings)
    starting = asyncio.ensure_future(service.start())
    stopping = asyncio.ensure_future(shutdown.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.wait((starting, stopping))
        await service.stop()


def _profile_for(settings: Settings, options: EngineOptions) -> Profile | None:
    """The profile that the settings name, which must be of these lanes; None when they name none."""
    if settings.profile_file is None:
        return None
    profile = read_profile(settings.profile_file)
    profile.check(options)
    return profile


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """What gRPC is told of connections: their messages, their calls, how long they live, how they are kept alive."""

    def milliseconds(seconds: float) -> int:
        return int(seconds * 1000)

    return [
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", settings.message_bytes),
        ("grpc.max_concurrent_streams", settings.concurrent_streams),
        # Up to the first nothing is refused, and from the second on all is; between them gRPC would throw dice.
        ("grpc.max_metadata_size", settings.metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.metadata_bytes),
        ("grpc.max_connection_idle_ms", milliseconds(settings.max_connection_idle_s)),
        ("grpc.max_connection_age_ms", milliseconds(settings.max_connection_age_s)),
        # What runs when a connection has its age may run to its deadline, and its answer must leave.
        ("grpc.max_connection_age_grace_ms", milliseconds(settings.longest_timeout_s + LAST_BYTES_S)),
        ("grpc.keepalive_time_ms", milliseconds(_KEEPALIVE_S)),
        ("grpc.keepalive_timeout_ms", milliseconds(_KEEPALIVE_TIMEOUT_S)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", milliseconds(_LEAST_PING_INTERVAL_S)),
        ("grpc.so_reuseport", 0),
    ]


def _spare_collector() -> None:
    """What is there once models are loaded stays, so the garbage collector need not walk it again and again.

    Images and calls are freed by reference counting; the collector is for cycles, which errors' tracebacks leave.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 10, 10)


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


def _seconds_per_pixel(batch: TimedBatch) -> float:
    """Of one lane, while the others were as busy."""
    return batch.seconds / (batch.count * batch.height_px * batch.width_px)
