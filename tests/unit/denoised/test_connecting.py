"""Ports that no service listens at as the client expects: each is told apart, by its real failure."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from denoised import Client, RetryPolicy, ServerUnavailableError
from denoised._connecting import CAUSES, cause_of

ONCE = RetryPolicy(try_count=1)


@pytest.fixture
def web_port() -> Iterator[int]:
    """A server of web pages."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


def refusal_at(target: str) -> ServerUnavailableError:
    with (
        Client(target, retry=ONCE) as client,
        pytest.raises(ServerUnavailableError, match="no denoised server answers at") as caught,
    ):
        client.clean(b"x")
    assert caught.value.target == target
    return caught.value


def test_a_port_of_web_pages_is_told_from_one_of_grpc(web_port: int) -> None:
    error = refusal_at(f"127.0.0.1:{web_port}")
    assert error.reason == "NOT_GRPC"
    assert "50051" in str(error)


def test_a_port_where_nothing_listens_says_so(silent_target: str) -> None:
    assert refusal_at(silent_target).reason == "CONNECTION_REFUSED"


def test_a_port_that_never_says_anything_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoised._calls._CONNECT_TIMEOUT_MS", 50)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert refusal_at(f"127.0.0.1:{listener.getsockname()[1]}").reason == "NO_ROUTE"


def test_a_name_that_does_not_exist_says_so() -> None:
    # Reserved: it never exists.
    assert refusal_at("denoised.invalid:50051").reason == "NAME_UNKNOWN"


def test_reasons_are_unique_and_remedies_are_part_of_a_sentence() -> None:
    assert len({cause.reason for cause in CAUSES}) == len(CAUSES)
    assert not [cause.reason for cause in CAUSES if cause.remedy.endswith(".") or cause.remedy[0].isupper()]
    assert cause_of("nothing that is known") is None
