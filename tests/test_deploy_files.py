"""The files that no unit test imports: cluster.yaml, the jobs, the Makefile and the CI script."""

import copy
import json
import os
import re
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from tests.test_serving_deploy import with_each_key_misspelt

ROOT = Path(__file__).parents[1]
JOBS = {"annotate": "annotate", "train": "train", "evaluate": "evaluate", "import_dataset": "data import"}


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def check_cluster(cluster: dict[str, Any]) -> None:
    """As ``ray up`` does before it calls the cloud."""
    from ray import autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    jsonschema.validate(cluster, json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text()))
    validate_config(prepare_config(copy.deepcopy(cluster)))
    assert cluster["provider"].keys() == {"type", "region", "cache_stopped_nodes"}
    # What Ray's schema leaves open goes to EC2 as it is; Ray adds the image and how many.
    asked = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in cluster["available_node_types"].items():
        assert node["resources"].keys() <= {"CPU", "GPU"}
        assert node["node_config"].keys() >= {"InstanceType", "BlockDeviceMappings"}
        report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **node["node_config"]}, asked)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    check_cluster(cluster)


@pytest.mark.parametrize("mistake", [{"max_worker": 3}, {"head_node_type": "boss"}, {"max_workers": "many"}])
def test_the_check_would_notice_a_mistake(cluster: dict[str, Any], mistake: dict[str, Any]) -> None:
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check_cluster({**cluster, **mistake})


def test_a_misspelt_key_is_noticed_wherever_it_stands_in_the_cluster_file(cluster: dict[str, Any]) -> None:
    free = re.compile(r"\.available_node_types\.(cpu|gpu|training)|\.file_mounts\..*")  # names of ours
    for place, changed in with_each_key_misspelt(cluster):
        if not free.fullmatch(place):
            with pytest.raises((jsonschema.ValidationError, ValueError, AssertionError, KeyError)):
                check_cluster(changed)
                pytest.fail(f"nobody would notice that {place} is misspelt")


def test_the_cluster_runs_the_ray_that_the_package_pins(cluster: dict[str, Any]) -> None:
    images = [cluster["docker"]["image"]]
    images += [node["docker"]["worker_image"] for node in cluster["available_node_types"].values() if "docker" in node]
    minor = re.search(r"ray\[[a-z,]+\]>=(\d+\.\d+),", (ROOT / "pyproject.toml").read_text())
    assert minor
    assert version("ray").startswith(f"{minor[1]}.")
    assert all(re.fullmatch(rf"rayproject/ray:{minor[1]}\.\d+-py311(-gpu)?", image) for image in images)


def test_the_cluster_scales_cpu_and_gpu_workers_and_asks_for_a_token(cluster: dict[str, Any]) -> None:
    workers = {
        name: node for name, node in cluster["available_node_types"].items() if name != cluster["head_node_type"]
    }
    assert {"GPU" in node["resources"] for node in workers.values()} == {True, False}
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) <= cluster["max_workers"]
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    (mounted,) = [inside for inside, here in cluster["file_mounts"].items() if here == "."]
    assert all(command == "ray stop" or command.startswith(f"{mounted}/deploy/start-node ") for command in starts)
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        ({}, [], "there is no token"),
        ({"RAY_AUTH_MODE": "disabled"}, [], "RAY_AUTH_MODE is 'disabled'"),
        ({"RAY_AUTH_TOKEN": "t" * 40}, ["--dashboard-host=0.0.0.0"], "--dashboard-host=0.0.0.0 is given"),
        ({"RAY_AUTH_TOKEN": "t" * 40}, ["--num-cpus=1", "--dashboard-host", "::"], "--dashboard-host is given"),
    ],
)
def test_no_node_is_started_open(tmp_path: Path, settings: dict[str, str], options: list[str], said: str) -> None:
    (tmp_path / "ray").write_text("#!/bin/sh\nexit 99\n")  # in the place of the real one, which must not be reached
    (tmp_path / "ray").chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy" / "start-node", "head", *options],
        env={"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", **settings},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize(("options", "told"), [([], "0"), (["--metrics-export-port=8080"], "1")])
def test_a_node_tells_metrics_only_where_it_is_asked_to(tmp_path: Path, options: list[str], told: str) -> None:
    (tmp_path / "ray").write_text("#!/bin/sh\necho $RAY_enable_metrics_collection\n")
    (tmp_path / "ray").chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy" / "start-node", "head", *options],
        env={"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_AUTH_TOKEN": "t" * 40},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == told


@pytest.mark.parametrize(("job", "verb"), JOBS.items())
def test_a_job_is_short_and_names_its_verb(job: str, verb: str) -> None:
    text = (ROOT / "jobs" / f"{job}.py").read_text()
    assert 10 <= len(text.splitlines()) <= 25
    assert f'run("{verb}")' in text


def test_a_job_runs_from_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    """``-S`` with the libraries' folder on PYTHONPATH hides an editable installation, which is a .pth file."""
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "jobs" / "import_dataset.py"), "auto", "nowhere", "out"],
        cwd=tmp_path, env={"PYTHONPATH": libraries, "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (2, 4), done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    lines = [line for line in script.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "set -euo pipefail"
    assert lines[-1] == "make test"


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "docs", "test-slow", "wheel", "clean"])
def test_the_makefile_has_the_target(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_demo_hands_the_video_on() -> None:
    done = subprocess.run(
        ["make", "-n", "demo", "VIDEO=my clip.mp4"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 'specktrack demo "my clip.mp4" --output "demo-output"' in done.stdout


def test_the_reference_pages_are_those_of_the_classes() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, env={**os.environ, "PYTHONPATH": "platform"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
