"""Why no connection came about, from what gRPC says of it: a reason for programs and a remedy for people.

gRPC has one code for all of it, UNAVAILABLE, and a text that names the last thing that failed. The tests provoke each
with the gRPC that is installed; what is not recognised is passed on as it is.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cause:
    """Why nobody answers.

    Attributes:
        reason: stable, for programs.
        marks: parts of gRPC's text that tell it, any of which is enough.
        remedy: what to do about it, continuing "no ... at host:port: ".
        is_handshake: whether something answers, and TLS is in the way.
        is_certain: False where other causes end in the same way.
    """

    reason: str
    marks: tuple[str, ...]
    remedy: str
    is_handshake: bool = False
    is_certain: bool = True


# Only then is it a connection that did not come about, and not one that was lost.
_NOT_CONNECTED: Final = ("failed to connect", "errors resolving", "DNS resolution failed")

# The first that fits counts.
CAUSES: Final = (
    Cause(
        "TLS_NAME_WRONG",
        ("Hostname Verification Check failed",),
        "its certificate is for other names: connect by one of these, or name it (Tls.server_name, --tls-server-name)",
        is_handshake=True,
    ),
    Cause(
        "TLS_CERTIFICATE_EXPIRED",
        ("certificate has expired",),
        "its certificate has expired, or this machine's clock is wrong: whoever runs the server has to renew it",
        is_handshake=True,
    ),
    Cause(
        "TLS_CERTIFICATE_UNTRUSTED",
        ("CERTIFICATE_VERIFY_FAILED",),
        "its certificate comes from an authority that is not trusted here: name the authority (Tls(ca=...), --tls-ca)",
        is_handshake=True,
    ),
    Cause(
        "TLS_NOT_SPOKEN",
        ("WRONG_VERSION_NUMBER",),
        "it speaks plain text: connect without TLS, or to the port that has it",
        is_handshake=True,
    ),
    # A server that stops ends so as well, and a proxy without a server behind it.
    Cause(
        "TLS_EXPECTED",
        ("Socket closed",),
        "it hung up at once, as one does that wants TLS (tls=True, --tls) or a certificate (--tls-cert, --tls-key)",
        is_handshake=True,
        is_certain=False,
    ),
    Cause(
        "NOT_GRPC",
        ("Expected SETTINGS frame", "Failed parsing HTTP/2", "Trying to connect an http1.x server"),
        "something else listens there, which does not speak gRPC; name the service's gRPC port, 50051 unless set",
    ),
    Cause(
        "NAME_UNKNOWN",
        ("errors resolving", "DNS resolution failed"),
        "the name is not known; check its spelling, and whether this machine's DNS knows it",
    ),
    Cause(
        "CONNECTION_REFUSED",
        ("Connection refused",),
        "nothing listens there; start the service, or name its port",
    ),
    Cause(
        "NO_ROUTE",
        ("No route to host", "Network is unreachable", "Host is unreachable", "timed out", "Timeout occurred"),
        "the machine can't be reached; check the address, firewalls and network policies",
    ),
)


def cause_of(text: str) -> Cause | None:
    """The cause that gRPC's text tells; None when it tells none that is known."""
    if not text.startswith(_NOT_CONNECTED):
        return None
    return next((cause for cause in CAUSES if any(mark in text for mark in cause.marks)), None)
