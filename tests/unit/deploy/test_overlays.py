"""What overlays, components and jobs make of the base, and that each fits the service that it runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from service.settings import ENV_PREFIX, Settings, load_settings
from tests.monitoring.names import metric_names, names_in
from tests.unit.deploy.rendering import DEPLOY, only, pod_of, rendered

_KUSTOMIZATIONS = sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))
_COMPONENTS = [
    folder
    for folder in _KUSTOMIZATIONS
    if yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["kind"] == "Component"
]
_WHOLE = [folder for folder in _KUSTOMIZATIONS if folder not in _COMPONENTS]
_WORKLOADS = ("Deployment", "Job")


def _name(folder: Path) -> str:
    return folder.relative_to(DEPLOY).as_posix()


def with_component(folder: Path, tmp_path: Path) -> list[Any]:
    """The base with one component; kustomize wants relative paths."""
    away = Path("../" * len(tmp_path.parts)) / DEPLOY.relative_to("/")
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(away / "base")],
                "components": [str(away / folder.relative_to(DEPLOY))],
            }
        ),
        encoding="utf-8",
    )
    return rendered(tmp_path)


def settings_of(objects: list[Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the service reads them from the ConfigMap; unknown names and contradictions are refused."""
    for name, value in only("ConfigMap", [each for each in objects if "dashboard" not in each["metadata"]["name"]])[
        "data"
    ].items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize("folder", _WHOLE, ids=_name)
def test_every_pod_meets_pod_security_restricted(folder: Path) -> None:
    pods = [pod_of(each) for each in rendered(folder) if each["kind"] in _WORKLOADS]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pods or folder.name == "kserve"


@pytest.mark.parametrize("folder", _COMPONENTS, ids=_name)
def test_a_component_makes_settings_that_the_service_takes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(with_component(folder, tmp_path), monkeypatch)

    assert settings.drain_timeout_s == 60


@pytest.mark.parametrize("folder", [*_COMPONENTS, *_WHOLE], ids=_name)
def test_there_is_one_autoscaler_at_most(folder: Path, tmp_path: Path) -> None:
    objects = with_component(folder, tmp_path) if folder in _COMPONENTS else rendered(folder)
    kinds = [each["kind"] for each in objects]

    assert kinds.count("HorizontalPodAutoscaler") + kinds.count("ScaledObject") <= 1
    assert "Deployment" not in kinds or "HorizontalPodAutoscaler" in kinds or "ScaledObject" in kinds


def test_both_autoscalers_on_offered_work_ask_for_a_metric_that_exists_and_for_the_same_share_of_a_pod(
    tmp_path: Path,
) -> None:
    components = DEPLOY / "components"
    (tmp_path / "keda").mkdir()
    scaled = only("ScaledObject", with_component(components / "autoscaling-keda", tmp_path / "keda"))
    (trigger,) = scaled["spec"]["triggers"]
    (tmp_path / "adapter").mkdir()
    objects = with_component(components / "autoscaling-adapter", tmp_path / "adapter")
    (metric,) = only("HorizontalPodAutoscaler", objects)["spec"]["metrics"]
    rule_text = (components / "autoscaling-adapter" / "adapter-rule.yaml").read_text(encoding="utf-8")
    (rule,) = yaml.safe_load(rule_text)["externalRules"]
    known = metric_names(Metrics(CollectorRegistry()))
    lanes = int(only("Deployment", objects)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])

    assert names_in(trigger["metadata"]["query"]) <= known
    assert names_in(rule["seriesQuery"]) <= known
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    assert float(trigger["metadata"]["threshold"]) == pytest.approx(0.7 * lanes)
    assert metric["external"]["target"]["averageValue"] == f"{700 * lanes}m"


def test_the_policy_lets_probes_clients_and_prometheus_in_and_nothing_out(tmp_path: Path) -> None:
    objects = with_component(DEPLOY / "components" / "network-policy", tmp_path)
    policy, deployment = only("NetworkPolicy", objects)["spec"], only("Deployment", objects)
    ports = {port["name"] for port in pod_of(deployment)["containers"][0]["ports"]}

    assert policy["podSelector"] == deployment["spec"]["selector"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    assert policy["egress"] == []


@pytest.mark.parametrize("job", ["clean", "load"])
def test_jobs_that_ask_the_service_are_let_in_by_the_policy(job: str, tmp_path: Path) -> None:
    policy = only("NetworkPolicy", with_component(DEPLOY / "components" / "network-policy", tmp_path))["spec"]
    allowed = policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    labels = only("Job", rendered(DEPLOY / "jobs" / job))["spec"]["template"]["metadata"]["labels"]

    assert allowed.items() <= labels.items()


def test_tls_needs_both_files_where_they_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = with_component(DEPLOY / "components" / "tls", tmp_path)
    settings, pod = settings_of(objects, monkeypatch), pod_of(only("Deployment", objects))
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}

    assert settings.plaintext_allowed is False
    assert {settings.tls_certificate_file, settings.tls_key_file} == {
        Path(mounts["tls"], "tls.crt"),
        Path(mounts["tls"], "tls.key"),
    }


def test_the_shards_of_a_bulk_job_are_as_many_as_its_pods() -> None:
    job = only("Job", rendered(DEPLOY / "jobs" / "clean"))["spec"]
    arguments = job["template"]["spec"]["containers"][0]["args"]

    assert job["completionMode"] == "Indexed"
    assert arguments[arguments.index("--shard") + 1] == f"$(JOB_COMPLETION_INDEX)/{job['completions']}"


def test_the_nodes_of_a_training_are_as_many_as_its_pods() -> None:
    objects = rendered(DEPLOY / "jobs" / "train")
    job, pod = only("Job", objects)["spec"], pod_of(only("Job", objects))
    command = pod["containers"][0]["command"][-1]

    assert f"--nnodes {job['completions']} " in command
    assert job["parallelism"] == job["completions"]
    assert pod["subdomain"] == only("Service", objects)["metadata"]["name"]
    assert f"--master-addr {only('Job', objects)['metadata']['name']}-0.{pod['subdomain']} " in command


def test_what_kserve_runs_is_given_the_time_to_drain_that_the_base_gives() -> None:
    base, kserve = rendered(DEPLOY / "base"), rendered(DEPLOY / "overlays" / "kserve")
    runtime = only("ServingRuntime", kserve)["spec"]["containers"][0]
    settings = {each["name"]: each["value"] for each in runtime["env"]}
    predictor = only("InferenceService", kserve)["spec"]["predictor"]
    of_base = only("ConfigMap", base)["data"]
    container = pod_of(only("Deployment", base))["containers"][0]

    assert (
        predictor["terminationGracePeriodSeconds"] == pod_of(only("Deployment", base))["terminationGracePeriodSeconds"]
    )
    assert settings.items() >= of_base.items()
    assert runtime["resources"] == container["resources"]
    assert {name.removeprefix(ENV_PREFIX).lower() for name in settings} <= Settings.model_fields.keys()
    assert runtime["lifecycle"] == container["lifecycle"]
