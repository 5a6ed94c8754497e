"""Runs with something in them that kills or fails the worker it meets. Importable in workers, which share this path."""

import os
import pickle
import signal
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
import torch

from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ClusterSettings, EmbedSettings, ModelSettings
from clipmill.embedding.plan import find_source, make_plan
from clipmill.encoders.model import load_model
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.shipping import Shipment, ship
from clipmill.engine import embed_on_ray
from clipmill.engine.embed import embed
from clipmill.source.cutting import plan_units

POISONED_WIDTH = 97
_ROWS_A_UNIT = 20
"""A row group each, so that a small input has many units."""


@dataclass(frozen=True)
class DeadlyPreprocessing(Preprocessing):
    """Kills its process at an image of one width: the first ``times`` times, counted by files in ``folder``."""

    folder: str = ""
    times: int = 0

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[-1] == POISONED_WIDTH:
            deaths = len(list(Path(self.folder).iterdir()))
            if deaths < self.times:
                (Path(self.folder) / str(deaths)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(image)


@dataclass(frozen=True)
class FailingPreprocessing(Preprocessing):
    """Raises at an image of one width."""

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[-1] == POISONED_WIDTH:
            raise RuntimeError("a tensor of the wrong shape")
        return super().prepare(image)


class _Exit:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def deadly_shipment() -> Shipment:
    """Ends the process that unpacks it."""
    return Shipment(pickle.dumps(_Exit()), {})


def embed_in_small_units(
    values: dict[str, Any],
    preprocessing: tuple[type[Preprocessing], dict[str, Any]] | None = None,
    shipment: Shipment | None = None,
    stall_timeout: float = 300,
    object_store_bytes: int | None = None,
) -> EmbeddingsManifest:
    """Embeds with the built-in model on a cluster of its own of two cores, whose workers import what lies here too.

    ``shipment`` is what encoders are given in the place of the model.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    model = load_model(ModelSettings())
    embedding = EmbedSettings(**values)
    plan = make_plan(embedding, find_source(embedding), model.identity, model.preprocessing)
    plan = replace(plan, units=plan_units(plan.inputs, _ROWS_A_UNIT, plan.settings.limit))
    if preprocessing is not None:
        kind, more = preprocessing
        plan = replace(plan, preprocessing=kind(**asdict(plan.preprocessing), **more))
    if object_store_bytes is not None:
        options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
        ray.init(address="local", num_cpus=2, object_store_memory=object_store_bytes, **options)
    settings = ClusterSettings(address="local", cpus=2, stall_timeout=stall_timeout)
    with patch.object(embed_on_ray, "ship", lambda model, texts: shipment or ship(model, texts=texts)):
        return plan.run(lambda work: embed(plan, model, settings, Silent(), work)).manifest
