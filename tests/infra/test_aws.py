"""The cluster file against Ray's schema, and the policies against the requests that the code makes."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import boto3
import ray.autoscaler
import yaml
from jsonschema import Draft7Validator
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from infra.manifests import INFRA, REPOSITORY, document

S3_CODE = REPOSITORY / "pipeline/clipmill/storage/s3"
NEEDED = {
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "copy": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"},
    "copy_object": {"s3:GetObject", "s3:PutObject"},
    "delete_object": {"s3:DeleteObject"},
    "delete_objects": {"s3:DeleteObject"},
    "get_object": {"s3:GetObject"},
    "head_bucket": {"s3:ListBucket"},
    "head_object": {"s3:GetObject"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject"},
    "upload_fileobj": {"s3:PutObject", "s3:AbortMultipartUpload"},
}
"""Actions that a method of boto3's client needs, by AWS's Service Authorization Reference for S3 and, for transfers of
several requests, by the operations that S3 lists as parts of a multipart upload."""
EC2_NEEDED = {
    "create_instances": "ec2:RunInstances",
    "create_tags": "ec2:CreateTags",
    "instances": "ec2:DescribeInstances",
    "start_instances": None,
    "stop_instances": None,
    "describe_images": None,
    "terminate_instances": "ec2:TerminateInstances",
}
"""Of Ray's provider for AWS. None: not asked for, since machines are not stopped and CloudWatch is not set up."""


def statements(name: str) -> list[dict[str, Any]]:
    policy = json.loads((INFRA / "aws" / name).read_text(encoding="utf-8"))
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    assert {one["Effect"] for one in found} == {"Allow"}
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def actions(name: str) -> set[str]:
    return {action for statement in statements(name) for action in listed(statement["Action"])}


def s3_methods() -> set[str]:
    """Methods of boto3's S3 client that the code calls: on the client, and by name."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    methods = {name for name in dir(client) if not name.startswith("_")} - {"get_paginator", "meta", "can_paginate"}
    found = set()
    for file in sorted(S3_CODE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_client(node.value):
                found.add(node.attr)
            if isinstance(node, ast.Call) and called(node) in ("ask", "get_paginator"):
                first = node.args[0]
                assert isinstance(first, ast.Constant), f"{file.name}: {ast.unparse(node)}"
                found.add(first.value)
    return found & methods


def is_client(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return called(value) == "client"
    return isinstance(value, ast.Name) and value.id in ("client", "made")


def called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_the_cluster_file_meets_rays_schema() -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text(encoding="utf-8"))
    Draft7Validator(schema).validate(document("aws/cluster.yaml"))


def test_the_head_runs_no_tasks_and_workers_are_spot_machines_with_the_runs_role() -> None:
    cluster = document("aws/cluster.yaml")
    types = cluster["available_node_types"]
    head = types[cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert any("--num-cpus=0" in line for line in cluster["head_start_ray_commands"])
    assert types["gpu"]["resources"]["GPU"] == 1
    for name in ("cpu", "gpu"):
        machine = types[name]["node_config"]
        assert machine["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert machine["IamInstanceProfile"]["Arn"].endswith("/clipmill-run")
        assert types[name]["min_workers"] == 0
    assert sum(types[name]["max_workers"] for name in ("cpu", "gpu")) == cluster["max_workers"]


def test_the_cluster_wants_its_token() -> None:
    cluster = document("aws/cluster.yaml")
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    (path,) = re.findall(r"RAY_AUTH_TOKEN_PATH=(\S+)", " ".join(cluster["docker"]["run_options"]))
    assert cluster["file_mounts"][path] == "~/.ray/auth_token"


def test_the_policy_of_a_run_allows_what_the_code_asks_of_s3_and_nothing_else() -> None:
    methods = s3_methods()
    assert methods, "no requests were found in the code"
    assert methods <= set(NEEDED), f"say what these need: {sorted(methods - set(NEEDED))}"
    assert actions("run-policy.json") == set().union(*(NEEDED[name] for name in methods))


def test_the_policy_allows_every_permission_that_an_error_may_ask_for() -> None:
    named = set()
    for file in S3_CODE.glob("*.py"):
        named |= set(re.findall(r'"(s3:[A-Z]\w+)"', file.read_text(encoding="utf-8")))
    assert len(named) >= 5
    assert named <= actions("run-policy.json")


def test_the_policy_of_a_run_cannot_write_its_input_and_names_its_places() -> None:
    config = yaml.safe_load((INFRA / "config/nightly.yaml").read_text(encoding="utf-8"))
    source, target = (uri.removeprefix("s3://").split("/")[0] for uri in (config["embed"]["input"], config["output"]))
    for statement in statements("run-policy.json"):
        resources = listed(statement["Resource"])
        assert "*" not in resources
        for action in listed(statement["Action"]):
            of_bucket = action.startswith("s3:List")
            assert all(resource.endswith("/*") != of_bucket for resource in resources), action
            if action not in ("s3:GetObject", "s3:ListBucket"):
                assert not any(f":{source}" in resource for resource in resources), action
    everything = {resource for one in statements("run-policy.json") for resource in listed(one["Resource"])}
    assert everything == {f"arn:aws:s3:::{bucket}{end}" for bucket in (source, target) for end in ("", "/*")}


def test_the_policy_of_the_head_allows_what_rays_provider_asks_of_ec2_and_nothing_else() -> None:
    provider = Path(ray.autoscaler.__file__).parent / "_private/aws/node_provider.py"
    source = provider.read_text(encoding="utf-8")
    asked = set(re.findall(r"self\.ec2(?:_fail_fast)?\.(?:meta\.client\.)?(\w+)", source)) - {"meta"}
    assert asked <= set(EC2_NEEDED), f"say what these need: {sorted(asked - set(EC2_NEEDED))}"
    needed = {EC2_NEEDED[name] for name in asked} - {None}
    assert actions("head-policy.json") == needed | {"iam:PassRole"}
    assert document("aws/cluster.yaml")["provider"]["cache_stopped_nodes"] is False


def test_the_head_can_only_touch_its_own_clusters_machines() -> None:
    name = document("aws/cluster.yaml")["cluster_name"]
    for statement in statements("head-policy.json"):
        touched = set(listed(statement["Action"])) & {"ec2:TerminateInstances", "ec2:RunInstances"}
        if touched and any(":instance/" in resource for resource in listed(statement["Resource"])):
            (condition,) = statement["Condition"].values()
            assert list(condition.values()) == [name]
            assert all(key.endswith("/ray-cluster-name") for key in condition)


def test_ray_fills_in_nothing_that_changes_the_image_or_the_machines() -> None:
    prepared = prepare_config(document("aws/cluster.yaml"))
    validate_config(prepared)
    commands = [name for name in prepared if name.endswith("_commands") and prepared[name]]
    assert sorted(commands) == ["head_start_ray_commands", "worker_start_ray_commands"]
    assert set(prepared["available_node_types"]) == {"head", "cpu", "gpu"}
    machines = [one["node_config"] for one in prepared["available_node_types"].values()]
    assert [machine["InstanceType"] for machine in machines] == ["m5.2xlarge", "c5.4xlarge", "g5.xlarge"]
    assert all(machine["ImageId"].startswith("ami-") for machine in machines), (
        "Ray's own images are too old for CUDA 13"
    )


def test_ray_start_knows_every_option() -> None:
    known = {option for parameter in start.params for option in parameter.opts}
    cluster = document("aws/cluster.yaml")
    for line in (cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]):
        assert set(re.findall(r"--[a-z-]+", line)) <= known
