"""More nodes for a run under way, where an autoscaler refuses as a whole what is asked for.

Ray Data asks for a cluster of a certain size, up to twice of what there is. KubeRay's autoscaler brings nothing at all of a
size beyond its most nodes, so that a cluster of three nodes out of four stays at three. Tasks that wait it looks at one by
one: they ask for what is lacking, and bring what there can be.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from clipmill.engine.autoscaler import Bundle, outlook

_LOOK_SECONDS = 10.0
"""Ray Data asks anew that often."""
_MOST = 64
"""Tasks that wait for nodes at a time: each is a worker process for a moment once its node is up."""


class Growth:
    """Asks for what was refused. ``look`` is to be called often, ``end`` once."""

    def __init__(self) -> None:
        self._waiting: dict[Any, Bundle] = {}
        self._looked = time.monotonic()

    def look(self) -> None:
        """Asks for what is lacking now and not asked for yet."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        with suppress(RayError, RuntimeError):  # the next look does it
            self._ask()

    def _ask(self) -> None:
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wanted = lacking(outlook().refused, there)
        self._forget_all_but(wanted)
        for bundle, count in (wanted - Counter(self._waiting.values())).items():
            for _ in range(min(count, _MOST - len(self._waiting))):
                self._waiting[_arrive(dict(bundle))] = bundle

    def end(self) -> None:
        """Asks for nothing any more."""
        with suppress(RayError, RuntimeError):  # a cluster that is gone brings nothing either
            self._forget_all_but({})

    def _forget_all_but(self, wanted: Mapping[Bundle, int]) -> None:
        """Drops tasks that have run, and those that ask for what nobody wants any more."""
        if not self._waiting:
            return
        done, _ = ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        for one in [one for one, bundle in self._waiting.items() if one in done or bundle not in wanted]:
            del self._waiting[one]
            ray.cancel(one, force=True)


def lacking(wanted: Mapping[Bundle, int], there: Iterable[Mapping[str, float]]) -> Counter[Bundle]:
    """What does not fit on nodes with these resources, the largest placed first."""
    free = [dict(node) for node in there]
    missing: Counter[Bundle] = Counter()
    for bundle in sorted(wanted, key=lambda one: [dict(one).get(kind, 0.0) for kind in ("GPU", "CPU")], reverse=True):
        for _ in range(wanted[bundle]):
            node = next((node for node in free if all(node.get(kind, 0) >= amount for kind, amount in bundle)), None)
            if node is None:
                missing[bundle] += 1
                continue
            for kind, amount in bundle:
                node[kind] -= amount
    return missing


def _arrive(bundle: dict[str, float]) -> Any:
    """A task that does nothing, once there is a node that has so much free."""
    cpus, gpus, memory = bundle.pop("CPU", 0), bundle.pop("GPU", None), bundle.pop("memory", None)
    options: dict[str, Any] = {
        "num_cpus": cpus,
        "num_gpus": gpus,
        "memory": memory,
        "resources": bundle,
        "max_retries": 0,
    }
    return ray.remote(lambda: None).options(**options).remote()
