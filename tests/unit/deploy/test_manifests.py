"""The manifests against each other, against Pod Security "restricted", and against the service's own settings."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.app import LAST_BATCHES_S, LAST_BYTES_S
from service.http import build_http_app
from service.metrics import Metrics
from service.settings import ENV_PREFIX, Settings, load_settings
from tests.unit.deploy.rendering import rendered

_ROOT = Path(__file__).parents[3]
_BASE = _ROOT / "deploy" / "base"
_SETTINGS_ENV = dict(
    line.split("=", 1)
    for line in (_BASE / "settings.env").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


def _manifest(name: str) -> Any:
    return yaml.safe_load((_BASE / name).read_text(encoding="utf-8"))


_DEPLOYMENT = _manifest("deployment.yaml")
_POD = _DEPLOYMENT["spec"]["template"]["spec"]
_CONTAINER = _POD["containers"][0]
_SERVICE = _manifest("service.yaml")
_PORTS = {port["name"]: port["containerPort"] for port in _CONTAINER["ports"]}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service reads from the generated ConfigMap; unknown names and wrong values are refused."""
    for name, value in _SETTINGS_ENV.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_every_setting_is_one_that_the_service_takes(settings: Settings) -> None:
    names = {name.removeprefix(ENV_PREFIX).lower() for name in _SETTINGS_ENV}

    assert names
    assert names == settings.model_fields_set


def test_the_config_map_that_the_pod_reads_is_the_generated_one() -> None:
    (generator,) = _manifest("kustomization.yaml")["configMapGenerator"]

    assert generator["envs"] == ["settings.env"]
    assert _CONTAINER["envFrom"] == [{"configMapRef": {"name": generator["name"]}}]


def test_the_pod_meets_pod_security_restricted() -> None:
    security = _CONTAINER["securityContext"]

    assert _POD["securityContext"]["runAsNonRoot"] is True
    assert _POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & _POD.keys()
    assert all(volume.keys() <= {"name", "emptyDir", "configMap", "secret"} for volume in _POD["volumes"])


def test_the_pod_can_write_to_tmp_alone() -> None:
    assert _CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert [(mount["name"], mount["mountPath"]) for mount in _CONTAINER["volumeMounts"]] == [("tmp", "/tmp")]
    assert _POD["volumes"] == [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]


def test_the_pod_has_no_token_and_no_variables_of_other_services() -> None:
    # Service links would set DENOISED_PORT and the like, which the service refuses as unknown settings.
    assert _POD["automountServiceAccountToken"] is False
    assert _POD["enableServiceLinks"] is False


def test_the_ports_are_those_that_the_service_opens(settings: Settings) -> None:
    assert {"grpc": settings.grpc_port, "metrics": settings.http_port} == _PORTS


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
)
def test_a_probe_asks_the_right_question_on_a_port_that_is_open(probe: str, path: str) -> None:
    app = build_http_app(metrics=Metrics(CollectorRegistry()), is_ready=lambda: True, stuck_lane_count=lambda: 0)
    paths = {resource.canonical for resource in app.router.resources()}

    assert _CONTAINER[probe]["httpGet"] == {"path": path, "port": "metrics"}
    assert path in paths
    assert "metrics" in _PORTS


def _cpu_s_of_the_largest_image(settings: Settings) -> float:
    """Measured with 100 megapixels in chunks, and proportional to the size."""
    bench = json.loads((_ROOT / "docs" / "results" / "bench.json").read_text(encoding="utf-8"))
    (row,) = (row for row in bench["rows"] if row["key"] == "chunked100")
    (cpu_s,) = (figure["value"] for figure in row["figures"] if figure["name"] == "service CPU")
    largest_pixels = max(settings.image_pixels, settings.chunked_image_pixels)
    return float(cpu_s) * largest_pixels / 100e6


def test_the_drain_is_long_enough_for_the_largest_image_beside_as_much_other_work(settings: Settings) -> None:
    cores = int(_CONTAINER["resources"]["limits"]["cpu"])

    assert settings.drain_timeout_s >= 2 * _cpu_s_of_the_largest_image(settings) / cores


def test_there_is_time_to_drain_and_to_close_before_the_pod_is_killed(settings: Settings) -> None:
    pre_stop_s = _CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = settings.drain_delay_s + settings.drain_timeout_s

    assert pre_stop_s > 0
    assert _POD["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + LAST_BYTES_S + LAST_BATCHES_S


def test_cores_are_whole_and_guaranteed() -> None:
    resources = _CONTAINER["resources"]

    assert resources["requests"] == resources["limits"]
    assert int(resources["limits"]["cpu"]) >= 1


def test_images_take_at_most_half_of_the_memory(settings: Settings) -> None:
    limit = _CONTAINER["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")

    assert settings.memory_bytes <= int(limit.removesuffix("Gi")) * 1024**3 / 2


def test_a_roll_out_never_lowers_the_capacity() -> None:
    assert _DEPLOYMENT["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_image_is_the_one_of_this_version() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert _CONTAINER["image"] == f"denoised:{project['version']}"


def test_the_selectors_choose_the_pods() -> None:
    labels = _DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    spreads = [constraint["labelSelector"]["matchLabels"] for constraint in _POD["topologySpreadConstraints"]]

    assert _DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert _SERVICE["spec"]["selector"] == labels
    assert spreads == [labels, labels]


def test_the_pods_spread_where_they_can() -> None:
    assert {constraint["whenUnsatisfiable"] for constraint in _POD["topologySpreadConstraints"]} == {"ScheduleAnyway"}


def test_the_service_is_headless_and_says_which_protocols_it_speaks() -> None:
    ports = {port["name"]: port for port in _SERVICE["spec"]["ports"]}

    assert _SERVICE["spec"]["clusterIP"] == "None"
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert {name: (port["port"], port["targetPort"]) for name, port in ports.items()} == {
        name: (number, name) for name, number in _PORTS.items()
    }


def test_kustomize_ties_the_pod_to_the_content_of_its_settings() -> None:
    objects = {manifest["kind"]: manifest for manifest in rendered(_BASE)}

    assert objects.keys() == {"ConfigMap", "Service", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    assert objects["ConfigMap"]["data"] == _SETTINGS_ENV
    (source,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert source["configMapRef"]["name"].startswith("denoised-")


def test_the_autoscaler_alone_says_how_many_pods_there_are() -> None:
    scaled = _manifest("hpa.yaml")["spec"]["scaleTargetRef"]

    assert "replicas" not in _DEPLOYMENT["spec"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", _DEPLOYMENT["metadata"]["name"])


def test_nodes_are_emptied_one_pod_at_a_time() -> None:
    budget = _manifest("pdb.yaml")["spec"]

    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == _DEPLOYMENT["spec"]["selector"]["matchLabels"]


def test_the_settings_of_image_and_manifests_together_are_ones_that_it_starts_with(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The image listens on all addresses, and plain text there takes a word in the manifests."""
    dockerfile = (_ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name, value in re.findall(rf"({ENV_PREFIX}\w+)=(\S+)", dockerfile.rpartition("\nFROM ")[2]):
        monkeypatch.setenv(name, value)
    assert load_settings().grpc_host == load_settings().http_host == "0.0.0.0"
    assert settings.plaintext_allowed is True
