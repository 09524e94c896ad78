"""What the service is reached through, and what of that is read again while it runs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from service.metrics import Metrics, Reloaded, ReloadOutcome
from service.settings import Settings
from service.tls import CertificateRefused, Certificates, TlsFiles
from service.watch import FileWatch

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Watched:
    """Files, and what is done when they change."""

    what: Reloaded
    files: FileWatch
    reload: Callable[[], Awaitable[None]]


class Security:
    """TLS. Whatever its files become while the service runs, it goes on with the last ones that were right."""

    def __init__(self, settings: Settings, *, metrics: Metrics) -> None:
        """Raises CertificateRefused."""
        self._metrics = metrics
        self._poll_s = settings.credentials_poll_s
        self._watched: list[_Watched] = []
        self._certificates: Certificates | None = None
        if settings.tls_certificate_file is not None and settings.tls_key_file is not None:
            files = TlsFiles(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
            watch = FileWatch(files.paths())
            self._certificates = Certificates(files)
            self._watched.append(_Watched(Reloaded.CERTIFICATE, watch, self._reload_certificate))

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Opens the port; returns its number.

        Raises:
            RuntimeError: it is taken.
        """
        if self._certificates is None:
            _log.warning("gRPC speaks plain text", address=address)
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self._certificates.credentials())

    async def watch(self) -> None:
        """Looks at the files now and then, for ever."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    async def look(self) -> None:
        """Uses what has changed, if it is right."""
        for watched in self._watched:
            if not await asyncio.to_thread(watched.files.has_changed):
                continue
            try:
                await watched.reload()
            except CertificateRefused as error:
                self._metrics.reloads[watched.what, ReloadOutcome.REFUSED].inc()
                _log.error("a change was not taken", what=watched.what.value, detail=str(error))
            else:
                self._metrics.reloads[watched.what, ReloadOutcome.TAKEN].inc()
                _log.info("a change was taken", what=watched.what.value)

    async def _reload_certificate(self) -> None:
        assert self._certificates is not None
        await asyncio.to_thread(self._certificates.reload)
