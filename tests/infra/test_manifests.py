"""Manifests for Kubernetes and KubeRay against their published schemas, and what a run needs of them."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.scripts.scripts import start

from clipmill.runs.run_file import read_run_file
from infra.manifests import CONFIG, INFRA, REPOSITORY, cluster_spec, document, documents, entrypoints, pod_templates

SCHEMAS = REPOSITORY / "../shared/data/kuberay"
KUBERAY = {
    "kuberay/cluster.yaml": ("RayCluster", "ray.io_rayclusters.yaml"),
    "kuberay/job.yaml": ("RayJob", "ray.io_rayjobs.yaml"),
    "kuberay/nightly.yaml": ("RayCronJob", "ray.io_raycronjobs.yaml"),
}
PLAIN = ("kuberay/account.yaml", "cronjob/cronjob.yaml")
KUBERNETES = "1.34"


def strict(schema: Any) -> Any:
    """A CRD's schema in which a field that it does not know is an error; the API server would drop it without a word."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(inner) for key, inner in schema.items()}
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@cache
def definition_in(file: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the files are large
    definition: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    return definition


def check_against_crd(manifest: dict[str, Any], file: Path) -> None:
    definition = definition_in(file)
    assert manifest["kind"] == definition["spec"]["names"]["kind"]
    group, _, version = manifest["apiVersion"].partition("/")
    assert group == definition["spec"]["group"]
    (served,) = [one for one in definition["spec"]["versions"] if one["name"] == version and one["served"]]
    schema = strict(served["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.Draft7Validator(schema).validate(manifest)


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberays_manifests_meet_its_published_schemas(name: str) -> None:
    kind, schema = KUBERAY[name]
    if not SCHEMAS.exists():
        pytest.skip("KubeRay's schemas are not at hand")
    assert document(name)["kind"] == kind
    check_against_crd(document(name), SCHEMAS / schema)


def test_a_field_that_kuberay_does_not_know_is_found() -> None:
    if not SCHEMAS.exists():
        pytest.skip("KubeRay's schemas are not at hand")
    manifest = copy.deepcopy(document("kuberay/job.yaml"))
    manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(jsonschema.ValidationError, match="nodeSelectors"):
        check_against_crd(manifest, SCHEMAS / "ray.io_rayjobs.yaml")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_manifests_meet_kubernetes_schemas(name: str) -> None:
    for manifest in documents(name):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    manifest = copy.deepcopy(document("cronjob/cronjob.yaml"))
    manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="container"):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", [*KUBERAY, "cronjob/cronjob.yaml"])
def test_every_pod_meets_kubernetes_schema_and_runs_without_rights(name: str) -> None:
    templates = dict(pod_templates(document(name)))
    assert len(templates) == {"kuberay/cluster.yaml": 3, "cronjob/cronjob.yaml": 1}.get(name, 4)
    for place, template in templates.items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        user = template["spec"]["securityContext"]
        assert user["runAsNonRoot"], place
        assert user["runAsUser"] == 1000, place
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}, place
        for container in template["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }, place
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, place
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted == {volume["name"] for volume in template["spec"].get("volumes", ())}, place


def test_jobs_run_on_the_cluster_of_the_cluster_manifest() -> None:
    standing = cluster_spec("kuberay/cluster.yaml")
    assert cluster_spec("kuberay/job.yaml") == standing
    assert cluster_spec("kuberay/nightly.yaml") == standing


def test_the_schedules_job_is_the_job_manifests() -> None:
    assert document("kuberay/nightly.yaml")["spec"]["jobTemplate"] == document("kuberay/job.yaml")["spec"]


def test_the_cluster_is_one_that_a_run_can_be_left_alone_with() -> None:
    spec = cluster_spec("kuberay/cluster.yaml")
    head, (cpu, gpu) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    (locked,) = re.findall(r"^ray==(\S+)$", (REPOSITORY / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert spec["rayVersion"] == locked
    assert spec["authOptions"] == {"mode": "token", "secretName": "clipmill-ray-token"}
    assert spec["enableInTreeAutoscaling"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert (cpu["groupName"], gpu["groupName"]) == ("cpu", "gpu")
    assert "nvidia.com/gpu" not in cpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert gpu["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "tolerations" not in head["template"]["spec"], "the head does not go where it may be taken away"
    for group in (head, cpu, gpu):
        (container,), pod = group["template"]["spec"]["containers"], group["template"]["spec"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "spill"]
        assert group["rayStartParams"]["object-spilling-directory"] == mount["mountPath"]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "spill"]
        room = container["resources"]["limits"]["ephemeral-storage"]
        assert container["resources"]["requests"]["ephemeral-storage"] == room
        assert gibibytes(volume["emptyDir"]["sizeLimit"]) < gibibytes(room)
    for group in (cpu, gpu):
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        tolerated = {one["key"] for one in group["template"]["spec"]["tolerations"]}
        assert tolerated >= {"spot", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


@pytest.mark.parametrize("group", ["headGroupSpec", "cpu", "gpu"])
def test_ray_start_knows_every_parameter(group: str) -> None:
    spec = cluster_spec("kuberay/cluster.yaml")
    groups = {one["groupName"]: one for one in spec["workerGroupSpecs"]} | {"headGroupSpec": spec["headGroupSpec"]}
    known = {option for parameter in start.params for option in parameter.opts}
    assert {f"--{name}" for name in groups[group]["rayStartParams"]} <= known
    assert all(isinstance(value, str) for value in groups[group]["rayStartParams"].values())


def gibibytes(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi"))


def test_names_agree_across_manifests() -> None:
    namespace, account = documents("kuberay/account.yaml")
    names = [document(name) for name in KUBERAY] + [document("cronjob/cronjob.yaml"), account]
    assert {manifest["metadata"]["namespace"] for manifest in names} == {namespace["metadata"]["name"]}
    spec = cluster_spec("kuberay/cluster.yaml")
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert {group["template"]["spec"]["serviceAccountName"] for group in groups} == {account["metadata"]["name"]}
    (container,) = document("cronjob/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    service = f"{document('kuberay/cluster.yaml')['metadata']['name']}-head-svc"  # as KubeRay names it
    assert f"http://{service}:8265" in container["command"]
    token = {variable["name"]: variable for variable in container["env"]}["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert token == {"name": spec["authOptions"]["secretName"], "key": "auth_token"}


def test_all_targets_use_one_image() -> None:
    images = {document("aws/cluster.yaml")["docker"]["image"]}
    for name in (*KUBERAY, "cronjob/cronjob.yaml"):
        for _, template in pod_templates(document(name)):
            images |= {container["image"] for container in template["spec"]["containers"]}
    (image,) = images
    assert not image.endswith(":latest")


def test_the_shipped_configuration_is_valid_and_is_what_targets_run() -> None:
    run = read_run_file(CONFIG)
    assert (run.embed.input, run.output) == ("s3://example-photos/", "s3://example-vectors/photos")
    assert run.index is not None
    assert run.evaluate is not None
    for name, line in entrypoints().items():
        assert line[-1] == f"/config/{CONFIG.name}", name


def test_clusters_mount_the_configuration_where_entrypoints_look() -> None:
    head = cluster_spec("kuberay/cluster.yaml")["headGroupSpec"]["template"]["spec"]
    (volume,) = [volume for volume in head["volumes"] if "configMap" in volume]
    (mount,) = [mount for mount in head["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    assert mount["mountPath"] == "/config"
    assert f"configmap {volume['configMap']['name']} " in (INFRA / "kuberay/README.md").read_text(encoding="utf-8")
    assert REPOSITORY / document("aws/cluster.yaml")["file_mounts"]["/config"] == CONFIG.parent
