"""serve_config.yaml and deploy/: accepted by the installed schemas, and noticed where a key is missing or misspelt."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeDeploySchema

from specktrack.errors import ConfigError
from specktrack.options import load
from specktrack.serving.config import check_public_bind, parse_args

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RAY = "2.60.0"
IMAGE = r"registry\.example\.org/specktrack:(cpu|cuda)"

# Facts of the KubeRay API ray.io/v1: the keys of each object that are used here or required.
CLUSTER_KEYS = {
    "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs",
}  # fmt: skip
HEAD_KEYS, HEAD_REQUIRED = {"rayStartParams", "template", "serviceType"}, {"template"}
WORKER_REQUIRED = {"groupName", "replicas", "minReplicas", "maxReplicas", "template"}
WORKER_KEYS = WORKER_REQUIRED | {"rayStartParams", "idleTimeoutSeconds", "scaleStrategy"}
JOB_KEYS = {
    "entrypoint", "backoffLimit", "activeDeadlineSeconds", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
    "rayClusterSpec", "runtimeEnvYAML", "submissionMode",
}  # fmt: skip
SERVICE_KEYS = {"serveConfigV2", "rayClusterConfig", "excludeHeadPodFromServeSvc"}


def check_serve(content: dict[str, Any]) -> None:
    """Everything that Ray and the application would refuse, and the keys that Ray would silently drop."""
    ServeDeploySchema.model_validate(content)
    application = content["applications"][0]
    deployments = {deployment["name"]: deployment for deployment in application["deployments"]}
    assert deployments.keys() >= {"Gateway", "Windowed", "Batches"}
    for deployment in deployments.values():
        unknown = deployment.keys() - DeploymentSchema.model_fields.keys()
        assert not unknown, unknown
        scaling = deployment["autoscaling_config"]
        assert not scaling.keys() - AutoscalingConfig.model_fields.keys(), scaling
        AutoscalingConfig.model_validate(scaling)
        assert deployment["max_ongoing_requests"] > 0
    assert deployments["Batches"]["autoscaling_config"]["min_replicas"] == 0
    assert deployments["Windowed"]["max_queued_requests"] > 0, "without a bound nothing is ever refused"
    assert callable(load(application["import_path"]))
    check_public_bind(content["http_options"]["host"], parse_args(application["args"]))


def check_cluster(spec: dict[str, Any]) -> None:
    assert spec.keys() == CLUSTER_KEYS
    assert spec["rayVersion"] == RAY and spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]
    assert HEAD_REQUIRED <= head.keys() <= HEAD_KEYS
    _check_pod(head["template"], "ray-head")
    for worker in spec["workerGroupSpecs"]:
        assert WORKER_REQUIRED <= worker.keys() <= WORKER_KEYS
        assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
        _check_pod(worker["template"], "ray-worker")
    assert len({worker["groupName"] for worker in spec["workerGroupSpecs"]}) == len(spec["workerGroupSpecs"])


def check_manifest(content: dict[str, Any]) -> None:
    assert content.keys() == {"apiVersion", "kind", "metadata", "spec"} and content["apiVersion"] == "ray.io/v1"
    assert content["metadata"].keys() <= {"name", "generateName"} and content["metadata"]
    spec = content["spec"]
    if content["kind"] == "RayService":
        assert {"serveConfigV2", "rayClusterConfig"} <= spec.keys() <= SERVICE_KEYS
        check_serve(yaml.safe_load(spec["serveConfigV2"]))
        check_cluster(spec["rayClusterConfig"])
    elif content["kind"] == "RayJob":
        assert {"entrypoint", "rayClusterSpec"} <= spec.keys() <= JOB_KEYS
        assert spec["entrypoint"].startswith("specktrack ")
        assert spec["backoffLimit"] > 0 and spec["activeDeadlineSeconds"] > 0 and spec["shutdownAfterJobFinishes"]
        check_cluster(spec["rayClusterSpec"])
    else:
        assert content["kind"] == "RayCluster"
        check_cluster(spec)


def _check_pod(template: dict[str, Any], name: str) -> None:
    assert template.keys() == {"spec"} and template["spec"].keys() <= {"containers", "volumes"}
    (container,) = template["spec"]["containers"]
    assert container["name"] == name and re.fullmatch(IMAGE, container["image"])
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits and limits.keys() >= {"cpu", "memory"}
    assert ("nvidia.com/gpu" in limits) == container["image"].endswith("cuda")
    assert container["securityContext"]["runAsNonRoot"] and not container["securityContext"]["allowPrivilegeEscalation"]
    mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
    assert mounted == {volume["name"] for volume in template["spec"].get("volumes", ())}


def manifests() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((DEPLOY / "kuberay").glob("*.yaml"))}


def serve_config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "serve_config.yaml").read_text())


def without_each_key(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(place, the content without the key there) for every key of nested mappings."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(content, dict):
            yield (*path, key), {name: each for name, each in content.items() if name != key}
        for place, changed in without_each_key(value, (*path, key)):
            copied = copy.copy(content)
            copied[key] = changed
            yield place, copied


def test_the_serve_file_is_accepted() -> None:
    check_serve(serve_config())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("applications", 0, "deployments", 0, "max_ongoing_request"), 5),
        (("applications", 0, "deployments", 1, "autoscaling_config", "min_replica"), 1),
        (("applications", 0, "deployments", 1, "autoscaling_config", "min_replicas"), 99),
        (("applications", 0, "deployments", 1, "max_queued_requests"), -1),
        (("applications", 0, "import_path"), "specktrack.serving:built"),
        (("applications", 0, "args", "modles"), ["specknet"]),
        (("applications", 0, "args", "access", "hosts"), 7),
        (("http_options", "host"), "0.0.0.0"),
        (("http_options", "port"), "x"),
    ],
)
def test_the_check_notices_a_mistake_in_the_serve_file(place: tuple[Any, ...], value: Any) -> None:
    content = target = serve_config()
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    with pytest.raises((AssertionError, ValueError, ConfigError, AttributeError)):
        check_serve(content)


@pytest.mark.parametrize("name", ["raycluster", "rayjob", "rayservice"])
def test_the_manifests_are_accepted_and_what_they_need_cannot_be_dropped(name: str) -> None:
    content = manifests()[name]
    check_manifest(content)
    optional = {  # what Kubernetes, KubeRay, Ray or specktrack have a default for
        "metadata", "name", "generateName", "ttlSecondsAfterFinished", "rayStartParams", "num-cpus", "dashboard-host",
        "ports", "containerPort", "env", "value", "envFrom", "secretRef", "optional", "runAsUser", "capabilities",
        "drop", "idleTimeoutSeconds", "mountPath", "readOnly", "secret", "secretName", "serveConfigV2",
    }  # fmt: skip
    for place, changed in without_each_key(content):
        if place[-1] not in optional or place == ("spec", "serveConfigV2") or place == ("metadata",):
            with pytest.raises((AssertionError, KeyError, ValueError)):
                check_manifest(changed)
                pytest.fail(f"nobody would notice that {place} is missing")


def test_the_images_are_the_pinned_ray_and_run_as_its_user() -> None:
    pinned = re.search(r"ray\[[a-z,]+\]>=(\d+\.\d+),", (ROOT / "pyproject.toml").read_text())
    assert pinned and RAY.startswith(f"{pinned[1]}.")
    for name, tag in {"cpu": f"{RAY}-py311", "cuda": f"{RAY}-py311-gpu"}.items():
        lines = (DEPLOY / "docker" / f"Dockerfile.{name}").read_text().splitlines()
        assert f"FROM rayproject/ray:{tag}" in lines
        users = [line for line in lines if line.startswith("USER ")]
        assert users[-1] == "USER ray" and not any(line.startswith("RUN") for line in lines[: lines.index("USER ray")])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "demo-output"} <= set(ignored)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads((DEPLOY / "grafana" / "specktrack.json").read_text())
    source = (ROOT / "platform/specktrack/serving/metrics.py").read_text()
    ours = set(re.findall(r'"(specktrack_[a-z_]+)"', source))
    asked = set(re.findall(r"ray_(\w+)", " ".join(t["expr"] for panel in board["panels"] for t in panel["targets"])))
    named = {re.sub(r"_(total|bucket)$", "", name) for name in asked if name.startswith("specktrack_")}
    assert named <= ours and len(ours - named) <= 1, ours ^ named
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
