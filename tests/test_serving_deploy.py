"""serve_config.yaml and deploy/: accepted by the installed schemas, and noticed where a key is missing or misspelt."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.build_app import build_app
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from specktrack.cli.options import parse
from specktrack.errors import ConfigError
from specktrack.lazy import load
from specktrack.serving.config import ServerConfig, check_public_bind, is_public, parse_args
from specktrack.serving.scaling import keep_sessions
from specktrack.serving.server import check_keys

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RAY = "2.60.0"
OTHER_POLICY = {"policy_function": "ray.serve.autoscaling_policy:default_autoscaling_policy"}
IMAGE = r"registry\.example\.org/specktrack:(cpu|cuda)"

# The keys of Kubernetes' objects and of KubeRay's API ray.io/v1 that the manifests use, none besides: an API server
# drops a key that it does not know. A key more in a manifest is a key more here, copied from their reference.
MEASURES = {"cpu": str, "memory": str, "nvidia.com/gpu": str}
CONTAINER = {
    "name": str,
    "image": str,
    "ports": [{"name": str, "containerPort": int}],
    "resources": {"limits": MEASURES, "requests": MEASURES},
    "env": [{"name": str, "value": str}],
    "envFrom": [{"secretRef": {"name": str, "optional": bool}}],
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "runAsNonRoot": bool,
        "runAsUser": int,
        "capabilities": {"drop": list},
        "seccompProfile": {"type": str},
    },
}
GROUP = {
    "rayStartParams": {"num-cpus": str, "dashboard-host": str},
    "template": {
        "spec": {
            "automountServiceAccountToken": bool,
            "containers": [CONTAINER],
            "volumes": [{"name": str, "secret": {"secretName": str}, "emptyDir": {"sizeLimit": str}}],
        },
    },
}
CLUSTER = {
    "rayVersion": str,
    "authOptions": {"mode": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"idleTimeoutSeconds": int},
    "headGroupSpec": GROUP,
    "workerGroupSpecs": [{**GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}],
}
JOB = {
    "entrypoint": str,
    "backoffLimit": int,
    "activeDeadlineSeconds": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": CLUSTER,
}
KINDS = {"RayCluster": CLUSTER, "RayJob": JOB, "RayService": {"serveConfigV2": str, "rayClusterConfig": CLUSTER}}


def check_shape(content: Any, shape: Any, place: str) -> None:
    """Nested mappings and lists have known keys and values of the named types."""
    if isinstance(shape, type):
        assert type(content) is shape, f"{place} is {content!r}, no {shape.__name__}"
    elif isinstance(shape, list):
        assert isinstance(content, list) and content, f"{place} is {content!r}, no list"
        for i, each in enumerate(content):
            check_shape(each, shape[0], f"{place}[{i}]")
    else:
        assert isinstance(content, dict), f"{place} is {content!r}, no mapping"
        for key, value in content.items():
            assert key in shape, f"unknown key {place}.{key}"
            check_shape(value, shape[key], f"{place}.{key}")


def check_serve(content: dict[str, Any]) -> None:
    """Everything that Ray and the application would refuse, and the keys that Ray would silently drop."""
    check_keys(content, ServeDeploySchema, "serve_config.yaml")
    ServeDeploySchema.model_validate(content)
    (application,) = content["applications"]
    config = parse_args(application["args"])
    check_public_bind(content["http_options"]["host"], config)
    built = build_app(
        load(application["import_path"])(application["args"]), name="specktrack", make_deployment_handle=_handle
    )
    deployments = {deployment["name"]: deployment for deployment in application["deployments"]}
    assert deployments.keys() == {deployment.name for deployment in built.deployments}
    assert "Template" in deployments, "a session needs a model that takes a box"
    for deployment in deployments.values():
        AutoscalingConfig.model_validate(deployment["autoscaling_config"])
        assert deployment["max_ongoing_requests"] > 0
    assert deployments["Batches"]["autoscaling_config"]["min_replicas"] == 0
    for deployment in deployments.values():
        assert deployment["max_queued_requests"] > 0, "without a bound nothing is ever refused"
    for name in ("Windowed", "Template"):
        policy = deployments[name]["autoscaling_config"]["policy"]["policy_function"]
        assert load(policy) is keep_sessions, "without it sessions are lost when replicas go"


def _handle(*_: Any) -> None:
    """In place of handles, which want a running Ray."""


def check_cluster(spec: dict[str, Any]) -> None:
    assert spec["rayVersion"] == RAY and spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]
    _check_pod(spec["headGroupSpec"]["template"], "ray-head")
    for worker in spec["workerGroupSpecs"]:
        assert worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
        assert worker["template"]["spec"]["automountServiceAccountToken"] is False
        _check_pod(worker["template"], "ray-worker")
    assert len({worker["groupName"] for worker in spec["workerGroupSpecs"]}) == len(spec["workerGroupSpecs"])


def check_manifest(content: dict[str, Any]) -> None:
    assert content.keys() == {"apiVersion", "kind", "metadata", "spec"} and content["apiVersion"] == "ray.io/v1"
    assert content["metadata"].keys() <= {"name", "generateName"} and content["metadata"]
    spec = content["spec"]
    check_shape(spec, KINDS[content["kind"]], "spec")
    if content["kind"] == "RayService":
        check_cluster(spec["rayClusterConfig"])  # first, for it takes no time
        check_serve(yaml.safe_load(spec["serveConfigV2"]))
    elif content["kind"] == "RayJob":
        assert spec["entrypoint"].startswith("specktrack ")
        assert spec["backoffLimit"] == 0, (
            "a run with quarantined videos ends with code 5, which KubeRay takes for failed"
        )
        assert spec["activeDeadlineSeconds"] > 0 and spec["shutdownAfterJobFinishes"]
        check_cluster(spec["rayClusterSpec"])
    else:
        check_cluster(spec)


def _check_pod(template: dict[str, Any], name: str) -> None:
    assert template.keys() == {"spec"} and template["spec"].keys() <= {
        "automountServiceAccountToken",
        "containers",
        "volumes",
    }
    (container,) = template["spec"]["containers"]
    assert container["name"] == name and re.fullmatch(IMAGE, container["image"])
    limits = container["resources"]["limits"]
    assert container["resources"]["requests"] == limits and limits.keys() >= {"cpu", "memory"}
    assert ("nvidia.com/gpu" in limits) == container["image"].endswith("cuda")
    context = container["securityContext"]
    assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]} and context["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in template["spec"]["volumes"]}
    assert all(volume.keys() & {"secret", "emptyDir"} for volume in template["spec"]["volumes"])
    (home,) = [env["value"] for env in container["env"] if env["name"] == "HOME"]
    assert mounted["tmp"] == home == "/tmp", "all that is written lies below /tmp"


def manifests() -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((DEPLOY / "kuberay").glob("ray*.yaml"))}


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


def with_each_key_misspelt(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, the content with another key there) for every key of nested mappings."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(content, dict):
            yield f"{place}.{key}", {(f"{n}e" if n == key else n): each for n, each in content.items()}
        for inner, changed in with_each_key_misspelt(value, f"{place}.{key}"):
            copied = copy.copy(content)
            copied[key] = changed
            yield inner, copied


def test_the_serve_file_is_accepted() -> None:
    check_serve(serve_config())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("applications", 0, "deployments", 1, "name"), "Window"),
        (("applications", 0, "deployments", 1, "autoscaling_config", "min_replicas"), 99),
        (("applications", 0, "deployments", 1, "max_queued_requests"), -1),
        (("applications", 0, "import_path"), "specktrack.serving:built"),
        (("http_options", "prot"), 8000),
        (("applications", 0, "deployments", 1, "ray_actor_options", "num_gpu"), 1),
        (("applications", 0, "args", "models"), ["specknet"]),
        (("applications", 0, "args", "access", "hosts"), 7),
        (("applications", 0, "deployments", 2, "autoscaling_config", "policy"), OTHER_POLICY),
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


def test_a_misspelt_key_is_noticed_wherever_it_stands_in_the_serve_file() -> None:
    for place, changed in with_each_key_misspelt(serve_config()):
        with pytest.raises((AssertionError, KeyError, ValueError, ConfigError)):
            check_serve(changed)
            pytest.fail(f"nobody would notice that {place} is misspelt")


@pytest.mark.parametrize("name", ["raycluster", "rayjob", "rayservice"])
def test_a_misspelt_key_is_noticed_wherever_it_stands_in_a_manifest(name: str) -> None:
    for place, changed in with_each_key_misspelt(manifests()[name]):
        with pytest.raises((AssertionError, KeyError)):
            check_manifest(changed)
            pytest.fail(f"nobody would notice that {place} is misspelt")


@pytest.mark.parametrize("name", ["raycluster", "rayjob", "rayservice"])
def test_the_manifests_are_accepted_and_what_they_need_cannot_be_dropped(name: str) -> None:
    content = manifests()[name]
    check_manifest(content)
    optional = {  # what Kubernetes, KubeRay, Ray or specktrack have a default for
        "metadata", "name", "generateName", "ttlSecondsAfterFinished", "rayStartParams", "num-cpus", "dashboard-host",
        "ports", "containerPort", "env", "value", "envFrom", "secretRef", "optional", "runAsUser",
        "idleTimeoutSeconds", "readOnly", "sizeLimit", "secret", "secretName", "serveConfigV2",
    }  # fmt: skip
    for place, changed in without_each_key(content):
        if place[-1] not in optional or place == ("spec", "serveConfigV2") or place == ("metadata",):
            with pytest.raises((AssertionError, KeyError, ValueError)):
                check_manifest(changed)
                pytest.fail(f"nobody would notice that {place} is missing")


def test_the_policy_admits_nobody_to_metrics_but_who_collects_them() -> None:
    policy = yaml.safe_load((DEPLOY / "kuberay" / "networkpolicy.yaml").read_text())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    nodes = {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}
    assert spec.keys() == {"podSelector", "policyTypes", "ingress"} and spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"] == nodes["podSelector"]
    assert [rule for rule in spec["ingress"] if "ports" not in rule] == [{"from": [nodes]}]
    admitted = {port["port"]: rule.get("from") for rule in spec["ingress"] for port in rule.get("ports", ())}
    assert admitted.keys() == {8000, 8080, 8265} and admitted[8000] is None
    assert admitted[8080] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, what it is given) of a Dockerfile, comments away and lines joined."""
    text = (DEPLOY / "docker" / f"Dockerfile.{name}").read_text()
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line]


@pytest.mark.parametrize(("name", "tag"), [("cpu", f"{RAY}-py311"), ("cuda", f"{RAY}-py311-gpu")])
def test_the_images_are_the_pinned_ray_and_run_as_its_user(name: str, tag: str) -> None:
    pinned = re.search(r"ray\[[a-z,]+\]>=(\d+\.\d+),", (ROOT / "pyproject.toml").read_text())
    assert pinned and RAY.startswith(f"{pinned[1]}.")
    given = instructions(name)
    assert given[:2] == [("FROM", f"rayproject/ray:{tag}"), ("USER", "ray")]
    assert {kind for kind, _ in given[2:]} == {"RUN", "ENV", "EXPOSE", "CMD"}, "COPY would keep the checkout in a layer"
    (run,) = [said for kind, said in given if kind == "RUN"]
    assert run.startswith("--mount=type=bind,target=/specktrack ") and run.endswith("'/specktrack[jobs]'")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "demo-output"} <= set(ignored)


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_image_s_server_is_reached_from_outside_and_asks_for_a_key(name: str) -> None:
    given = dict(instructions(name))
    program, verb, *arguments = json.loads(given["CMD"])
    config, _ = parse(verb, arguments)
    assert program == "specktrack" and isinstance(config, ServerConfig)
    assert is_public(config.host) and str(config.port) == given["EXPOSE"]
    check_public_bind(config.host, config.application)
    said = (DEPLOY / "docker" / f"Dockerfile.{name}").read_text() + (DEPLOY / "README.md").read_text()
    assert said.count(f":{config.access.api_keys_file}:ro") == 2, "where the keys are mounted is said"


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads((DEPLOY / "grafana" / "specktrack.json").read_text())
    source = (ROOT / "platform/specktrack/serving/metrics.py").read_text()
    ours = set(re.findall(r'"(specktrack_[a-z_]+)"', source))
    asked = set(re.findall(r"ray_(\w+)", " ".join(t["expr"] for panel in board["panels"] for t in panel["targets"])))
    named = {re.sub(r"_(total|bucket)$", "", name) for name in asked if name.startswith("specktrack_")}
    assert named <= ours and len(ours - named) <= 1, ours ^ named
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
