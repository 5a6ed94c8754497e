"""What encoders run on is what was asked for, and where it cannot be had, what is missing is told."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from click.testing import CliRunner

from clipmill.core import gpus
from clipmill.core.errors import RunFailed, UserError
from clipmill.core.settings import ClusterSettings, build
from clipmill.engine import arrival, device
from clipmill.engine.arrival import missing
from clipmill.engine.autoscaler import Outlook, of_newer, of_older
from clipmill.engine.choose import runs_here
from clipmill.engine.cluster import Cluster
from clipmill.engine.encoder_pool import encoder_pool
from clipmill_jobs.embed import command as embed_command

OWN = Cluster(cpus=4, nodes=1, node_cpus=4, gpus_of_nodes=(0,), own=True)
EMPTY = Cluster(cpus=0, nodes=1, node_cpus=0, gpus_of_nodes=(0,), own=False)
FULL = Cluster(cpus=8, nodes=2, node_cpus=4, gpus_of_nodes=(0, 2), own=False)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(gpus.FAKE_GPUS, raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_a_gpu_that_this_machine_lacks_is_a_mistake_told_before_anything_is_read() -> None:
    done = CliRunner().invoke(embed_command, ["--input", "nowhere", "--output", "out", "--device", "gpu"])
    assert done.exit_code == 2
    assert "--device gpu: this machine has no GPU" in done.output
    assert "--address" in done.output


@pytest.mark.parametrize("asked", [{"device": "gpu"}, {"num_gpu_actors": 1}, {"device": "gpu", "address": "local"}])
def test_this_machine_is_asked_and_a_named_cluster_is_not(asked: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no GPU that can be used"):
        device.check_device(ClusterSettings(**asked))
    device.check_device(ClusterSettings(**{**asked, "address": "10.0.0.1:6379"}))
    device.check_device(ClusterSettings(device="auto"))


def test_products_on_a_gpu_are_asked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    named = ClusterSettings(address="10.0.0.1:6379")
    assert not device.check_products("auto")
    assert not device.check_products("cpu", named)
    for settings in (None, ClusterSettings()):
        with pytest.raises(UserError, match="--products gpu: this machine has no GPU"):
            device.check_products("gpu", settings)
    with pytest.raises(UserError, match=r"leave it out to compute on cores$"):
        device.check_products("gpu")  # what runs in this process alone cannot be sent to a cluster
    assert device.check_products("gpu", named)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.check_products("gpu")


def test_a_number_of_encoders_on_gpus_and_no_gpu_contradict_each_other() -> None:
    with pytest.raises(UserError, match="leave one of them out"):
        device.declared(ClusterSettings(device="cpu", num_gpu_actors=2))
    assert device.declared(ClusterSettings(num_gpu_actors=2)) == "gpu"
    with pytest.raises(UserError, match=r"--device: 'tpu' is not one of"):
        build(ClusterSettings, {"device": "tpu"})


def test_small_work_on_a_gpu_is_done_here_where_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not runs_here(ClusterSettings(device="gpu"), small=True)
    assert device.device_here(ClusterSettings())[0] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runs_here(ClusterSettings(device="gpu"), small=True)
    assert device.device_here(ClusterSettings())[0] == "cuda"
    assert device.device_here(ClusterSettings(device="cpu"))[0] == "cpu"


def test_an_encoder_with_a_gpu_and_without_cuda_says_which_versions_do_not_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RunFailed, match=rf"torch {torch.__version__.split('+')[0]} for CUDA .*driver.*580") as raised:
        device.enter_device(["0"], "node-1")
    assert "node-1" in str(raised.value)
    monkeypatch.setenv(gpus.FAKE_GPUS, "1")
    device.enter_device(["0"], "node-1")


def test_an_encoder_without_a_gpu_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    device.enter_device([], "node-1")
    assert device.os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.usefixtures("cuda")
def test_an_encoder_with_a_gpu_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    device.enter_device(["1"], "node-1")
    assert device.os.environ["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    ("cluster", "settings", "chosen", "why"),
    [
        (FULL, {}, "gpu", "1 of 2 nodes has some"),
        (FULL, {"device": "cpu"}, "cpu", "as asked for"),
        (OWN, {}, "cpu", "this machine has no GPU"),
        (FULL, {"device": "gpu"}, "gpu", "1 of 2 nodes has some"),
    ],
)
def test_what_was_chosen_is_said_once_with_why(
    cluster: Cluster, settings: dict[str, Any], chosen: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(arrival, "describe", lambda own: cluster)
    ready, decided = arrival.ready_to_encode(cluster, ClusterSettings(**settings), said.append)
    assert (ready, decided.device) == (cluster, chosen)
    assert said == [f"encoding on {chosen.upper()}s: {why}"]
    assert bool(encoder_pool(ready, decided).gpus) == (chosen == "gpu")


def test_a_cluster_that_does_not_grow_encodes_on_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "outlook", lambda: Outlook())
    said: list[str] = []
    cluster = Cluster(cpus=4, nodes=1, node_cpus=4, gpus_of_nodes=(0,), own=False)
    assert arrival.ready_to_encode(cluster, ClusterSettings(), said.append)[1].device == "cpu"
    assert said == ["encoding on CPUs: no node of this cluster has a GPU, and it does not grow"]


def test_a_gpu_asked_of_a_cluster_of_our_own_without_one_is_a_mistake() -> None:
    with pytest.raises(UserError, match="--device gpu: this machine has no GPU"):
        arrival.ready_to_encode(OWN, ClusterSettings(device="gpu"), print)


@pytest.mark.parametrize(
    ("seen", "waited", "answer"),
    [
        (Outlook(), 0, False),
        (Outlook(grows=True), 1, None),
        (Outlook(grows=True), 60, False),
        (Outlook(grows=True, coming=1, brings=frozenset({"CPU", "GPU"})), 1, True),
        (Outlook(grows=True, coming=1, brings=frozenset({"CPU"})), 1, None),
        (Outlook(grows=True, coming=1, brings=None), 1, None),
        (Outlook(grows=True, coming=1, brings=None), 10, True),
        (Outlook(grows=True, coming=1, brings=None, refuses=frozenset({"GPU"})), 10, False),
    ],
)
def test_an_autoscalers_answer_is_read_from_what_becomes_of_the_asking(
    seen: Outlook, waited: float, answer: bool | None
) -> None:
    assert seen.answer("GPU", waited) is answer


def test_what_is_missing_is_said_in_words() -> None:
    assert "no autoscaler" in missing(Outlook(), False, "GPU", 1)
    assert "no node type of this cluster has a GPU" in missing(Outlook(grows=True), False, "GPU", 1)
    assert missing(Outlook(grows=True, coming=2), True, "GPU", 2) == "2 nodes asked for, none with a GPU up yet"
    assert "has not answered yet" in missing(Outlook(grows=True), None, "GPU", 2)


def test_the_older_autoscaler_tells_what_the_nodes_on_their_way_have() -> None:
    types = {"node_type_mapping": {"10.0.0.1": "head"}}
    report = {"pending_launches": {"gpu": 2}, "pending_nodes": [["", "gpu", ""]], "pending_resources": {"GPU": 3}}
    assert of_older({**types, **report}) == Outlook(True, 3, frozenset({"GPU"}))
    assert of_older(types) == Outlook(True)
    assert of_older(None).grows, "one that has said nothing yet may still bring nodes"
    assert not of_older({"node_type_mapping": {"10.0.0.1": "node_10.0.0.1"}}).grows


def test_the_newer_autoscaler_tells_what_it_refuses() -> None:
    def reply(**state: Any) -> Any:
        told = {"autoscaler_state_version": 3, "pending_instance_requests": [], "pending_instances": []}
        state = {**told, "infeasible_resource_requests": [], "infeasible_cluster_resource_constraints": [], **state}
        nodes = SimpleNamespace(
            node_states=[SimpleNamespace(ray_node_type_name="head", total_resources={"node:__internal_head__": 1})]
        )
        return SimpleNamespace(autoscaling_state=SimpleNamespace(**state), cluster_resource_state=nodes)

    refused = [SimpleNamespace(resources_bundle={"GPU": 1, "CPU": 0.5})]
    assert of_newer(reply(infeasible_resource_requests=refused)).refuses == frozenset({"GPU"})
    whole = [SimpleNamespace(request=SimpleNamespace(resources_bundle={"GPU": 1, "CPU": 0.5}), count=6)]
    told = of_newer(reply(infeasible_cluster_resource_constraints=[SimpleNamespace(resource_requests=whole)]))
    assert told.refused == {(("CPU", 0.5), ("GPU", 1)): 6}
    assert not told.refuses, "a size beyond the most nodes says nothing of what nodes have"
    asked = [SimpleNamespace(ray_node_type_name="gpu", count=2)]
    booting = [SimpleNamespace(ray_node_type_name=name) for name in ("gpu", "head")]
    assert of_newer(reply(pending_instance_requests=asked, pending_instances=booting)).coming == 3
    fixed = reply()
    fixed.cluster_resource_state.node_states[0].ray_node_type_name = "node_1"
    assert not of_newer(fixed).grows
    fixed.autoscaling_state.autoscaler_state_version = 0
    assert of_newer(fixed).grows, "one that has said nothing yet may still bring nodes"
