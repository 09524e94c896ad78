"""What the service is reached through and by whom, and what of that is read again while it runs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import structlog

from service.clients import Clients
from service.errors import Unauthenticated
from service.identities import CallersRefused, Identities, read_callers
from service.metrics import Metrics, Reloaded, ReloadOutcome
from service.settings import Settings, is_local
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
    """TLS and callers. Whatever their files become, the service goes on with the last ones that were right."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float], metrics: Metrics) -> None:
        """Raises CertificateRefused or CallersRefused."""
        self._metrics = metrics
        self._poll_s = settings.credentials_poll_s
        self._watched: list[_Watched] = []
        self._certificates: Certificates | None = None
        if settings.tls_certificate_file is not None and settings.tls_key_file is not None:
            files = TlsFiles(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)
            watch = FileWatch(files.paths())
            self._certificates = Certificates(files)
            self._watched.append(_Watched(Reloaded.CERTIFICATE, watch, self._reload_certificate))
        self._callers: Identities | None = None
        self._callers_file = settings.callers_file
        if settings.callers_file is not None:
            watch = FileWatch([settings.callers_file])
            self._callers = Identities(settings.callers_file, clock)
            self._watched.append(_Watched(Reloaded.CALLERS, watch, self._reload_callers))
        self.clients = Clients(self._callers, have_certificates=settings.tls_client_ca_file is not None)

    def is_admin(self, authorization: str | None, remote: str | None) -> bool:
        """Whether who sends this HTTP header from this address may change what is served.

        With a file of callers: one of its admins. Without: whoever is on this machine.
        """
        if self._callers is None:
            return remote is not None and is_local(remote)
        scheme, _, token = (authorization or "").partition(" ")
        try:
            return scheme.lower() == "bearer" and self._callers.of_token(token.strip()).caller.is_admin
        except Unauthenticated:
            return False

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
            except (CallersRefused, CertificateRefused) as error:
                self._metrics.reloads[watched.what, ReloadOutcome.REFUSED].inc()
                _log.error("a change was not taken", what=watched.what.value, detail=str(error))
            else:
                self._metrics.reloads[watched.what, ReloadOutcome.TAKEN].inc()
                _log.info("a change was taken", what=watched.what.value)

    async def _reload_certificate(self) -> None:
        assert self._certificates is not None
        await asyncio.to_thread(self._certificates.reload)

    async def _reload_callers(self) -> None:
        assert self._callers is not None
        assert self._callers_file is not None
        self._callers.take(await asyncio.to_thread(read_callers, self._callers_file))
