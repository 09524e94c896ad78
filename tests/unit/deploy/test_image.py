"""The Dockerfile against what the manifests and the service take for granted."""

import json
import re
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

_ROOT = Path(__file__).parents[3]
_DOCKERFILE = re.sub(r"\\\n\s*", "", (_ROOT / "Dockerfile").read_text(encoding="utf-8"))
_FINAL_STAGE = _DOCKERFILE.rpartition("\nFROM ")[2].splitlines()


def _only(instruction: str) -> str:
    (found,) = (line for line in _FINAL_STAGE if line.startswith(f"{instruction} "))
    return found.removeprefix(f"{instruction} ")


def test_it_runs_as_the_user_that_the_pod_asks_for() -> None:
    deployment = yaml.safe_load((_ROOT / "deploy/base/deployment.yaml").read_text(encoding="utf-8"))
    security = deployment["spec"]["template"]["spec"]["securityContext"]

    assert _only("USER") == f"{security['runAsUser']}:{security['runAsGroup']}"
    assert security["runAsUser"] > 0


def test_it_exposes_the_ports_that_the_service_opens() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}

    assert _only("EXPOSE").split() == [str(defaults["grpc_port"]), str(defaults["http_port"])]


def test_python_is_the_first_process_and_gets_the_signals() -> None:
    assert json.loads(_only("ENTRYPOINT")) == ["python", "-m", "service"]
    assert _only("STOPSIGNAL") == "SIGTERM"


def test_nothing_is_reported_to_the_maker_of_the_runtime() -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in _only("ENV").split()


def test_the_health_check_needs_nothing_but_python() -> None:
    command = json.loads(_only("HEALTHCHECK").partition(" CMD ")[2])

    compile(command[2], "HEALTHCHECK", "exec")
    assert command[:2] == ["python", "-c"]
    assert "/healthz" in command[2]


def test_packages_are_installed_from_the_lock_with_hashes_only() -> None:
    installs = [line for line in _DOCKERFILE.splitlines() if re.search(r"\bpip\b.*\binstall\b", line)]
    service, training = installs

    assert "--require-hashes" in service
    assert "--requirement /tmp/training.txt" in training, "torch differs by machine, so that its lock has no hashes"


def test_the_service_is_what_is_built_when_nothing_else_is_said() -> None:
    assert re.findall(r"^FROM \S+ AS (\S+)", _DOCKERFILE, flags=re.MULTILINE)[-1] == "service"


@pytest.mark.parametrize("stage", ["service", "training"])
def test_what_is_left_is_nobody_s_build_tool_and_no_root_s(stage: str) -> None:
    lines = _DOCKERFILE.partition(f" AS {stage}\n")[2].partition("\nFROM ")[0].splitlines()

    assert "USER 65532:65532" in lines
    assert any("pip uninstall --yes pip setuptools wheel" in line for line in lines)
    assert any(line.startswith("LABEL ") for line in lines)


@pytest.mark.parametrize(
    "name", ["requirements/service.txt", "requirements/training.txt", "service", "training", "proto/denoised"]
)
def test_the_builder_gets_what_it_copies(name: str) -> None:
    lines = (_ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert lines.index(f"!{name}") > lines.index("*")
