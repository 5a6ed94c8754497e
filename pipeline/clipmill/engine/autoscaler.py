"""What a cluster's autoscaler says of the nodes that are to come: asked for, refused, or on their way."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import ray

_ANSWER_SECONDS = 15.0
"""Autoscalers look at what waits every five seconds. The older one says nothing of what it cannot bring."""
_SEEN_SECONDS = 6.0
_HEAD = "node:__internal_head__"

Bundle = tuple[tuple[str, float], ...]
"""Resources that are asked for on one node: kinds and amounts, by kind."""


@dataclass(frozen=True)
class Outlook:
    """``grows``: there is an autoscaler that can bring nodes. ``coming`` nodes are asked for and not up; ``brings`` are the
    kinds of resources that they have, None where that is not told; ``refuses`` those that no node type can give. ``refused``
    counts what was asked for as a whole and goes beyond the most nodes there may be, so that none of it is brought."""

    grows: bool = False
    coming: int = 0
    brings: frozenset[str] | None = frozenset()
    refuses: frozenset[str] = frozenset()
    refused: Mapping[Bundle, int] = field(default_factory=dict)

    def answer(self, kind: str, waited: float) -> bool | None:
        """Whether a node with this kind of resource comes, once it has been asked for so many seconds; None: not told yet."""
        if not self.grows or kind in self.refuses:
            return False
        if self.coming and (kind in self.brings if self.brings is not None else waited > _SEEN_SECONDS):
            return True
        return False if waited > _ANSWER_SECONDS else None


def outlook() -> Outlook:
    """What the autoscaler says now; that of a cluster without one where there is none or it cannot be asked.

    Ray has no public way to ask: this reads what `ray status` reads, in the words of both autoscalers of Ray 2.60. Node
    types themselves are told by neither, only what becomes of what is asked for.
    """
    from ray._private import worker
    from ray.core.generated import autoscaler_pb2

    try:
        gcs: Any = cast(Any, worker.global_worker).gcs_client
        reply = cast(Any, autoscaler_pb2).GetClusterStatusReply()
        reply.ParseFromString(gcs.get_cluster_status(timeout_s=10))
        older = gcs.internal_kv_get(b"__autoscaling_status", None, timeout=10)
        newer = gcs.internal_kv_get(b"__autoscaler_v2_enabled", b"__autoscaler", timeout=10) == b"1"
    except (AttributeError, RuntimeError, ray.exceptions.RayError):
        return Outlook()
    if newer:
        return of_newer(reply)
    return of_older(json.loads(older).get("autoscaler_report")) if older else Outlook()


def of_newer(reply: Any) -> Outlook:
    """Of what the autoscaler of KubeRay says, a GetClusterStatusReply. One that has said nothing yet may still bring nodes."""
    state = reply.autoscaling_state
    nodes = reply.cluster_resource_state.node_states
    heads = {node.ray_node_type_name for node in nodes if _HEAD in node.total_resources}
    booting = [one for one in state.pending_instances if one.ray_node_type_name not in heads]  # a head that is up, too
    coming = sum(asked.count for asked in state.pending_instance_requests) + len(booting)
    refused = {kind for one in state.infeasible_resource_requests for kind in one.resources_bundle}
    grows = not state.autoscaler_state_version or _has_types(node.ray_node_type_name for node in nodes)
    asked = (one for whole in state.infeasible_cluster_resource_constraints for one in whole.resource_requests)
    as_a_whole = {tuple(sorted(one.request.resources_bundle.items())): int(one.count) for one in asked}
    return Outlook(grows, coming, None, frozenset(_scarcest(refused)), as_a_whole)


def of_older(report: Mapping[str, Any] | None) -> Outlook:
    """Of what the autoscaler of `ray up` says, its report; None: it has made none yet."""
    if report is None:
        return Outlook(grows=True)
    coming = sum((report.get("pending_launches") or {}).values()) + len(report.get("pending_nodes") or ())
    types = (report.get("node_type_mapping") or {}).values()
    return Outlook(_has_types(types), coming, frozenset(report.get("pending_resources") or ()))


def _has_types(types: Iterable[str]) -> bool:
    """Whether nodes are of a type that was declared: an autoscaler without any calls each node a type of its own."""
    return any(name and not name.startswith("node_") for name in types)


def _scarcest(kinds: set[str]) -> set[str]:
    """Of a request that is refused, what it is refused for: who asks for GPUs asks for CPUs too."""
    return {"GPU"} if "GPU" in kinds else kinds
