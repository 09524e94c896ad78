"""``denoised doctor`` at places that are each wrong in their own way, and what it looks at below gRPC."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from denoised.cli import main
from denoised.cli.probes import Place, addresses_of, places_of, spoken_at
from denoised.results import server as server_of
from denoised.v1 import denoised_pb2 as pb
from tests.certificates import Authority
from tests.unit.denoised.conftest import Server


def doctor(target: str, *options: object) -> Result:
    return CliRunner().invoke(main, ["doctor", "--server", target, "--timeout", "2", *map(str, options)])


@pytest.fixture
def web_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


def test_a_name_that_is_not_known_is_the_first_thing_found() -> None:
    result = doctor("denoised.invalid:50051")
    assert result.exit_code == 3
    assert result.stdout.startswith("failed  name      denoised.invalid is not known")
    assert len(result.stdout.splitlines()) == 1


def test_a_closed_port_is_named_with_what_to_look_at(silent_target: str) -> None:
    result = doctor(silent_target)
    assert result.exit_code == 3
    *_, last = result.stdout.splitlines()
    assert last.startswith(f"failed  port      closed: {silent_target} (Connection refused)")
    assert "firewall" in last


def test_a_port_of_web_pages_is_named(web_port: int) -> None:
    result = doctor(f"127.0.0.1:{web_port}", "--json")
    assert result.exit_code == 3
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["state"], last["step"]) == ("failed", "speech")
    assert "50051" in last["text"]


def test_plain_text_where_tls_is_asked_for_is_named(server: Server) -> None:
    result = doctor(server.target, "--tls")
    assert result.exit_code == 3
    assert "it speaks plain text: leave --tls out" in result.stdout


def test_a_port_that_says_nothing_is_told_from_grpc_and_closed_ones() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert spoken_at(Place("127.0.0.1", listener.getsockname()[1]), 0.2) == "nothing"


def test_a_server_that_has_no_health_is_too_old_or_another_one(server: Server) -> None:
    result = doctor(server.target)
    assert result.exit_code == 1
    assert "does not know this method" in result.stdout.splitlines()[-1]


def test_a_proxy_that_is_set_is_mentioned(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("grpc_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "")
    assert "add 127.0.0.1 to no_proxy" in doctor(server.target).stdout
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "proxy" not in doctor(server.target).stdout


@pytest.mark.parametrize(
    ("target", "places"),
    [
        ("localhost:50051", [Place("localhost", 50051)]),
        ("dns:///denoised.example:50051", [Place("denoised.example", 50051)]),
        ("dns:denoised.example", [Place("denoised.example", 443)]),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", [Place("10.0.0.1", 1), Place("10.0.0.2", 2)]),
        ("[::1]:50051", [Place("::1", 50051)]),
    ],
)
def test_targets_name_places(target: str, places: list[Place]) -> None:
    assert list(places_of(target)) == places


@pytest.mark.parametrize("target", ["unix:///run/denoised.sock", "localhost:port", ":1"])
def test_what_names_no_place_says_so(target: str) -> None:
    with pytest.raises(ValueError, match="host"):
        places_of(target)


def test_a_name_has_addresses() -> None:
    assert Place("127.0.0.1", 1) in addresses_of(Place("localhost", 1))


def test_a_server_of_another_release_is_noticed() -> None:
    full = pb.Limits(message_bytes=1, image_pixels=1, batch_image_count=1, chunked_image_pixels=1)
    same = server_of(pb.ListModelsResponse(limits=full), "SERVING")
    assert (same.is_newer, same.is_older) == (False, False)
    assert server_of(pb.ListModelsResponse(), "SERVING").is_older
    unknown_field = pb.ListModelsResponse.FromString(
        pb.ListModelsResponse(limits=full).SerializeToString() + b"\xc2\x3e\x01x"
    )
    assert server_of(unknown_field, "SERVING").is_newer


def test_tls_where_plain_text_was_tried_is_named_and_then_spoken(tmp_path: Path) -> None:
    authority = Authority()
    issued = authority.issue("localhost", "127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    with ThreadPoolExecutor(max_workers=1) as threads:
        secure = grpc.server(threads)
        credentials = grpc.ssl_server_credentials([(issued.key, issued.certificate)])
        port = secure.add_secure_port("127.0.0.1:0", credentials)
        secure.start()
        result = doctor(f"127.0.0.1:{port}")
        assert result.exit_code == 3
        assert "it speaks TLS: add --tls" in result.stdout
        result = doctor(f"127.0.0.1:{port}", "--tls-ca", tmp_path / "ca.pem")
        secure.stop(None).wait()
    assert result.exit_code == 1, "a server without any method"
    assert "ok      speech    TLS" in result.stdout
    assert "does not know this method" in result.stdout


def test_a_key_without_its_certificate_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"")
    result = doctor("localhost:1", "--tls-key", tmp_path / "key.pem")
    assert result.exit_code == 2
    assert "together with its key" in result.stderr
