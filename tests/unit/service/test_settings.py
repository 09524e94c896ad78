"""Settings: defaults, refusals all at once, and that what is printed can be read back."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import (
    ENV_PREFIX,
    SHIPPED_MODELS_DIR,
    Settings,
    SettingsError,
    describe_settings,
    load_settings,
)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def read_back(text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for line in text.splitlines():
        name, value = line.split("  # ")[0].split("=", 1)
        monkeypatch.setenv(name, value)
    return load_settings()


def test_an_empty_environment_gives_settings_that_serve() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.grpc_port, settings.http_port) == (50051, 8081)
    assert settings.models_dir == SHIPPED_MODELS_DIR
    assert settings.lane_count is None
    assert settings.image_pixels <= settings.queue_pixels
    assert settings.message_bytes <= settings.queue_bytes <= settings.memory_bytes


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DENOISED_GRPC_PORT", "0")
    monkeypatch.setenv("DENOISED_LANE_COUNT", "3")
    monkeypatch.setenv("DENOISED_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("DENOISED_REFLECTION", "false")
    monkeypatch.setenv("DENOISED_DRAIN_DELAY_S", "2.5")
    monkeypatch.setenv("DENOISED_LOG_FORMAT", "console")
    settings = load_settings()
    assert settings.grpc_port == 0
    assert settings.lane_count == 3
    assert settings.models_dir == tmp_path
    assert settings.reflection is False
    assert settings.drain_delay_s == 2.5
    assert settings.log_format == "console"


def test_variables_of_other_programs_are_none_of_our_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_PORT", "nonsense")
    monkeypatch.setenv("NOT_DENOISED_PORT", "nonsense")
    assert load_settings() == Settings()


def test_a_misspelt_setting_is_refused_and_the_remedy_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_GRPC_PROT", "50051")
    with pytest.raises(SettingsError, match=r"DENOISED_GRPC_PROT: no such setting; .*--print-config"):
        load_settings()


def test_everything_that_is_wrong_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "DENOISED_GRPC_PORT": "70000",
        "DENOISED_HTTP_PORT": "-1",
        "DENOISED_LANE_COUNT": "0",
        "DENOISED_BATCH_PIXELS": "many",
        "DENOISED_DRAIN_TIMEOUT_S": "0",
        "DENOISED_DEFAULT_TIMEOUT_S": "nan",
        "DENOISED_LOG_LEVEL": "loud",
        "DENOISED_MODEL_DIR": "/models",
        "DENOISED_THREADS": "2",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    title, *lines = str(raised.value).splitlines()
    assert title == "the settings are wrong:"
    assert {line.split(":")[0].split("=")[0].strip() for line in lines} == set(wrong)
    for name in set(wrong) - {"DENOISED_MODEL_DIR", "DENOISED_THREADS"}:
        assert any(line.strip().startswith(f"{name}='{wrong[name]}': ") for line in lines), "the value is named"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"CHUNK_BYTES": "4096", "MESSAGE_BYTES": "5119"},
            "DENOISED_CHUNK_BYTES=4096: a chunk and its frame of up to 1024 bytes travel in one message",
        ),
        ({"PROVIDER": "cuda", "LANE_COUNT": "2"}, "DENOISED_LANE_COUNT=2: a GPU runs one batch at a time"),
        ({"PROVIDER": "cuda", "PRECISION": "int8"}, "DENOISED_PRECISION=int8: int8 files are made for CPUs"),
        ({"NORMAL_WEIGHT": "9"}, "DENOISED_INTERACTIVE_WEIGHT=8.0, DENOISED_NORMAL_WEIGHT=9.0, "),
        ({"BULK_WEIGHT": "4"}, "DENOISED_NORMAL_WEIGHT=3.0, DENOISED_BULK_WEIGHT=4.0: "),
        ({"CHUNKED_IMAGE_PIXELS": "10"}, "DENOISED_CHUNKED_IMAGE_PIXELS=10: it is below DENOISED_IMAGE_PIXELS="),
        ({"GRPC_PORT": "8081"}, "DENOISED_GRPC_PORT=8081: DENOISED_HTTP_PORT=8081 is the same port"),
    ],
)
def test_settings_that_can_not_work_together_are_refused_with_both(
    variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(ENV_PREFIX + name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    _, *lines = str(raised.value).splitlines()
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.parametrize(
    "variables",
    [
        {"CHUNK_BYTES": "4096", "MESSAGE_BYTES": "5120"},
        {"PROVIDER": "cuda", "LANE_COUNT": "1"},
        {"PROVIDER": "cuda", "PRECISION": "fp32"},
        {"PRECISION": "int8-where-present"},
        {"NORMAL_WEIGHT": "1", "INTERACTIVE_WEIGHT": "1"},
        {"GRPC_PORT": "0", "HTTP_PORT": "0"},
        {"GRPC_PORT": "8081", "GRPC_HOST": "127.0.0.2"},
    ],
)
def test_settings_that_just_work_together_are_taken(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(ENV_PREFIX + name, value)
    load_settings()


def test_several_contradictions_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_BULK_WEIGHT", "100")
    monkeypatch.setenv("DENOISED_CHUNKED_IMAGE_PIXELS", "1")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["DRAIN_TIMEOUT_S", "DEFAULT_TIMEOUT_S", "MAX_CONNECTION_AGE_S", "DRAIN_DELAY_S"])
def test_an_endless_time_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times become whole milliseconds for gRPC, so an infinite one would only fail later, at start."""
    monkeypatch.setenv(ENV_PREFIX + name, "inf")
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_what_is_printed_of_settings_that_are_all_set_can_be_read_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(
        ports_file=tmp_path / "ports.json",
        profile_file=tmp_path / "profile.json",
        lane_count=3,
        codec_threads=2,
        reflection=False,
        drain_delay_s=1.5,
    )
    assert read_back(describe_settings(settings), monkeypatch) == settings


def test_what_is_printed_of_the_defaults_can_be_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting without a value is printed as ``NAME=``, so that must mean "not set"."""
    assert read_back(describe_settings(Settings()), monkeypatch) == Settings()


def test_every_setting_is_printed_once_with_its_meaning() -> None:
    lines = describe_settings(Settings()).splitlines()
    names = [line.split("=")[0] for line in lines]
    assert names == [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    for line in lines:
        assert line.split("  # ")[1].rstrip(".") not in ("", "None"), line


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.grpc_port = 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.0.0.7", "denoised.example"])
def test_plain_text_where_others_reach_it_takes_a_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_GRPC_HOST", host)
    with pytest.raises(SettingsError, match="DENOISED_PLAINTEXT_ALLOWED=true"):
        load_settings()
    monkeypatch.setenv("DENOISED_PLAINTEXT_ALLOWED", "true")
    assert load_settings().grpc_host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_on_this_machine_alone_it_takes_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISED_GRPC_HOST", host)
    assert load_settings().grpc_host == host


def test_with_a_certificate_any_address_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GRPC_HOST": "0.0.0.0", "TLS_CERTIFICATE_FILE": "a.crt", "TLS_KEY_FILE": "a.key"}.items():
        monkeypatch.setenv(ENV_PREFIX + name, value)
    assert load_settings().plaintext_allowed is False


@pytest.mark.parametrize(
    ("name", "says"), [("TLS_CERTIFICATE_FILE", "set both, or neither"), ("TLS_CLIENT_CA_FILE", "shows one")]
)
def test_half_of_what_tls_takes_is_refused(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "a.pem")
    with pytest.raises(SettingsError, match=says):
        load_settings()
