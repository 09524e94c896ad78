"""Who calls: one answer for every method, from the call's token, its certificate or its address."""

from typing import Any, Final, TypeAlias

import grpc
import structlog

from service.identities import Identities, Pass
from service.submission import Client

# Generic for the type checker alone, hence the text.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Addresses of clients that are remembered.
_REMEMBERED_COUNT: Final = 4096
_METADATA_KEY: Final = "authorization"
_SCHEME: Final = "bearer "
_CERTIFICATE_NAME_KEYS: Final = ("x509_subject_alternative_name", "x509_common_name")


class Clients:
    """Clients by their calls."""

    def __init__(self, callers: Identities | None = None, *, have_certificates: bool = False) -> None:
        """Without ``callers`` anybody may call, and is known by a certificate where clients show one, else by address.

        Args:
            callers: who may.
            have_certificates: whether the service asks clients for one, and has checked it.
        """
        self._callers = callers
        self._have_certificates = have_certificates
        self._remembered: dict[tuple[str, object], Client] = {}

    @property
    def are_named(self) -> bool:
        """Whether calls from nobody in particular are refused."""
        return self._callers is not None

    def of(self, context: Context) -> Client:
        """Who makes this call. Fairness is kept between callers, or addresses without their ports.

        Raises:
            Unauthenticated: nobody who may.
        """
        peer = context.peer()
        if self._callers is not None:
            entry = self._pass_of(context, self._callers)
            return self._client(peer, entry, entry.caller.name, entry)
        if self._have_certificates and (names := _certificate_names(context)):
            return self._client(peer, names[0], names[0], None)
        return self._client(peer, None, peer.rsplit(":", 1)[0], None)

    def admit(self, context: Context, size_bytes: int) -> Client:
        """Who makes this call of so many bytes, and takes it from what they may; logs name them from here on.

        Raises:
            Unauthenticated: nobody who may.
            QuotaExceeded: they have taken more than they may.
        """
        client = self.of(context)
        structlog.contextvars.bind_contextvars(caller=client.share)
        client.enter(size_bytes)
        return client

    def _pass_of(self, context: Context, callers: Identities) -> Pass:
        for key, value in context.invocation_metadata() or ():
            if key == _METADATA_KEY and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
                return callers.of_token(value[len(_SCHEME) :].strip())
        return callers.of_certificate(_certificate_names(context) if self._have_certificates else [])

    def _client(self, peer: str, key: object, share: str, entry: Pass | None) -> Client:
        client = self._remembered.get((peer, key))
        if client is None:
            if len(self._remembered) >= _REMEMBERED_COUNT:
                self._remembered.clear()
            client = self._remembered[peer, key] = Client(share=share, connection=peer, entry=entry)
        return client


def _certificate_names(context: Context) -> list[str]:
    """Its DNS names and addresses, then its common name."""
    found = context.auth_context()
    return [
        name.decode("utf-8", errors="replace")
        for key in _CERTIFICATE_NAME_KEYS
        for name in found.get(key) or ()
        if name
    ]
