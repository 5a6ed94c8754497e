"""The files of infra/, read: documents, pod templates, and the command lines that start a run."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"
CONFIG = INFRA / "config/nightly.yaml"


def documents(name: str) -> list[dict[str, Any]]:
    """All documents of a YAML file of infra/."""
    return list(yaml.safe_load_all((INFRA / name).read_text(encoding="utf-8")))


def document(name: str) -> dict[str, Any]:
    (only,) = documents(name)
    return only


def cluster_spec(name: str) -> dict[str, Any]:
    """The RayCluster's spec in a manifest of KubeRay."""
    manifest = document(name)
    spec: dict[str, Any] = manifest["spec"]
    if manifest["kind"] == "RayCronJob":
        spec = spec["jobTemplate"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


def pod_templates(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template anywhere in a manifest, with where it is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict) and "containers" in inner.get("spec", {}):
                yield f"{place}.{key}", inner
            else:
                yield from pod_templates(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from pod_templates(inner, f"{place}[{number}]")


def entrypoints() -> dict[str, list[str]]:
    """What each target runs as a Ray job, as words of a command line."""
    (container,) = document("cronjob/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    submitted = container["command"]
    return {
        "kuberay/job.yaml": shlex.split(document("kuberay/job.yaml")["spec"]["entrypoint"]),
        "kuberay/nightly.yaml": shlex.split(document("kuberay/nightly.yaml")["spec"]["jobTemplate"]["entrypoint"]),
        "cronjob/cronjob.yaml": submitted[submitted.index("--") + 1 :],
        "aws/README.md": next(
            shlex.split(line.partition(" -- ")[2])
            for line in (INFRA / "aws/README.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("ray job submit")
        ),
    }
