"""What a machine can be asked below gRPC: its name's addresses, whether a port is open, and what is spoken there."""

import socket
import ssl
from dataclasses import dataclass
from typing import Final, Literal

_DEFAULT_PORT: Final = 443
# What HTTP/2 begins with, and a frame of settings without any.
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_FRAME_HEADER_BYTES: Final = 9
_SETTINGS: Final = 4
_TLS_ALERT: Final = 0x15

Speech = Literal["gRPC", "TLS", "something else", "nothing"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection goes."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def places_of(target: str) -> tuple[Place, ...]:
    """The hosts and ports that a gRPC target names.

    Raises:
        ValueError: it names none, or is of a kind that has neither.
    """
    scheme, colon, rest = target.partition(":")
    if target.startswith("dns:"):
        texts = [rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest]
    elif scheme in ("ipv4", "ipv6") and colon:
        texts = rest.split(",")
    elif scheme in ("unix", "unix-abstract", "vsock", "xds", "google-c2p"):
        raise ValueError(f"{target} has no host and port to look at")
    else:
        texts = [target]
    return tuple(_place(text, target) for text in texts)


def _place(text: str, target: str) -> Place:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(_DEFAULT_PORT)
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ValueError(f"{target} is no host:port")
    return Place(host, int(port))


def addresses_of(place: Place) -> tuple[Place, ...]:
    """The addresses of the host's name.

    Raises:
        OSError: there is no such name, or nobody to ask.
    """
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    return tuple(Place(str(address[0]), int(address[1])) for *_, address in dict.fromkeys(found))


def spoken_at(address: Place, timeout_s: float) -> Speech:
    """What answers there.

    Raises:
        OSError: the port is not open.
    """
    with socket.create_connection((address.host, address.port), timeout_s) as connection:
        connection.sendall(_PREFACE)
        answer = _received(connection)
    if len(answer) == _FRAME_HEADER_BYTES and answer[3] == _SETTINGS:
        return "gRPC"
    if answer[:1] == bytes([_TLS_ALERT]) or _shakes_hands(address, timeout_s):
        return "TLS"
    return "something else" if answer else "nothing"


def _received(connection: socket.socket) -> bytes:
    """The first bytes of an answer; fewer when it ends, and none when it never begins."""
    answer = b""
    try:
        while len(answer) < _FRAME_HEADER_BYTES and (more := connection.recv(_FRAME_HEADER_BYTES - len(answer))):
            answer += more
    except OSError:
        pass  # a timeout, or a connection that was closed in anger
    return answer


def _shakes_hands(address: Place, timeout_s: float) -> bool:
    """Whether it speaks TLS, whoever it is; nothing is sent that it would have to be trusted for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except ssl.SSLError as error:
        # A server that asks for a certificate ends the handshake in words of TLS as well.
        return error.reason not in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING")
    except OSError:
        return False
