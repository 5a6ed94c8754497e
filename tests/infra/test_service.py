"""The manifest of the search service: its pods, the configuration of Ray Serve inside it, and what the command is told."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from clipmill.core.errors import UserError
from clipmill.core.settings import ServeSettings
from infra.manifests import document, pod_templates
from infra.test_manifests import KUBERNETES, SCHEMAS, check_against_crd

MANIFEST = "kuberay/service.yaml"


@pytest.fixture
def spec() -> dict[str, Any]:
    return document(MANIFEST)["spec"]


@pytest.fixture
def configuration(spec: dict[str, Any]) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))


def test_its_cluster_meets_kuberays_published_schema(spec: dict[str, Any]) -> None:
    if not SCHEMAS.exists():
        pytest.skip("KubeRay's schemas are not at hand")
    manifest = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {}, "spec": spec["rayClusterConfig"]}
    check_against_crd(manifest, SCHEMAS / "ray.io_rayclusters.yaml")


def test_it_is_a_service_of_the_same_ray_account_and_token_as_the_cluster(spec: dict[str, Any]) -> None:
    manifest, standing = document(MANIFEST), document("kuberay/cluster.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    assert manifest["metadata"]["namespace"] == standing["metadata"]["namespace"]
    for name in ("rayVersion", "authOptions"):
        assert spec["rayClusterConfig"][name] == standing["spec"][name]
    images = {one["spec"]["containers"][0]["image"] for _, one in pod_templates(spec)}
    assert images == {one["spec"]["containers"][0]["image"] for _, one in pod_templates(standing)}


def test_every_pod_runs_without_rights(spec: dict[str, Any]) -> None:
    templates = dict(pod_templates(spec))
    assert len(templates) == 2
    for place, template in templates.items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        assert template["spec"]["securityContext"]["runAsNonRoot"], place
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, place
        assert container["resources"]["requests"] == container["resources"]["limits"], place


def test_the_configuration_of_ray_serve_is_valid_and_names_what_there_is(configuration: ServeDeploySchema) -> None:
    (application,) = configuration.applications
    assert application.import_path == "clipmill.serve.on_ray.ingress:build"
    settings = ServeSettings.model_validate({"host": configuration.http_options.host, **application.args})
    assert settings.places == ("photos=s3://example-vectors/photos",)
    assert settings.token_file == Path("/tokens/tokens.txt")


def test_the_tokens_are_mounted_where_the_configuration_looks(
    spec: dict[str, Any], configuration: ServeDeploySchema
) -> None:
    file = Path(configuration.applications[0].args["token_file"])
    for place, template in pod_templates(spec):
        mounts = {mount["name"]: mount for mount in template["spec"]["containers"][0]["volumeMounts"]}
        secrets = {one["name"] for one in template["spec"]["volumes"] if "secret" in one}
        (mount,) = [mounts[name] for name in secrets]
        assert mount["mountPath"] == str(file.parent), place
        assert mount["readOnly"], place


def test_replicas_are_as_many_as_workers_that_hold_them(spec: dict[str, Any], configuration: ServeDeploySchema) -> None:
    (group,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert int(configuration.applications[0].args["replicas"]) == group["replicas"]


def test_a_service_for_others_is_not_built_without_tokens(configuration: ServeDeploySchema) -> None:
    from clipmill.serve.on_ray.ingress import build

    arguments = {name: value for name, value in configuration.applications[0].args.items() if name != "token_file"}
    with pytest.raises(UserError, match="so a token is needed"):
        build(arguments)
