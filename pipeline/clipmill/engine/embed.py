"""One embed run: continue what is there, do what is left, publish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from clipmill.core.manifests import EmbeddingsManifest
from clipmill.core.reporter import Reporter
from clipmill.core.settings import ClusterSettings
from clipmill.embedding.manifest import finish
from clipmill.embedding.plan import EmbedPlan, followed
from clipmill.embedding.statistics import Statistics
from clipmill.embedding.steps import Committed
from clipmill.engine.choose import SMALL_ROWS, cores_here, runs_here
from clipmill.engine.device import DECODED_ON_GPU, check_decoding, device_here
from clipmill.source.planned import find_progress
from clipmill.source.units import Units
from clipmill.stage.pieces import Pieces
from clipmill.stage.stage import Work
from clipmill.stage.units.follow import Following

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel


class _Driver(Protocol):
    """What embeds units: this process or a cluster."""

    @property
    def pieces(self) -> Pieces: ...

    @property
    def hardware(self) -> dict[str, Any]: ...

    def run(self, todo: Units, committed: Committed) -> Statistics: ...


def embed(
    plan: EmbedPlan, model: ClipModel, settings: ClusterSettings, reporter: Reporter, work: Work
) -> EmbeddingsManifest:
    """Does what is left of the plan, in this process where it is small, else on Ray.

    Raises RunFailed when a stage fails for good, when nothing moves, and when there are too many rejects; what was
    committed is kept and the same plan continues from it.
    """
    progress = find_progress(plan, work)
    with _driver(plan, model, settings, reporter) as driver:
        following = Following(followed(plan, progress), work, driver.pieces, reporter)
        run = Statistics()
        if len(progress.todo):
            run = driver.run(progress.todo, following.committed)
        files, total, seconds = following.finish()
        run.add(Statistics(seconds=Counter({"compact": seconds})))
        return finish(plan, progress, files, total, run, driver.hardware)


@contextmanager
def _driver(plan: EmbedPlan, model: ClipModel, settings: ClusterSettings, reporter: Reporter) -> Iterator[_Driver]:
    if plan.settings.decode == "gpu":
        reporter.message(plan.name, DECODED_ON_GPU)
    if runs_here(settings, small=plan.rows <= SMALL_ROWS):
        from clipmill.encoders.shipping import placed
        from clipmill.engine.embed_here import EmbedHere

        device, why = device_here(settings)
        check_decoding(plan.settings.decode, device)
        reporter.message(plan.name, f"embedding {plan.rows:,} rows in this process, {why}")
        yield EmbedHere(plan, placed(model, plan.settings.model_settings, device), cores_here(settings))
        return
    from clipmill.engine.arrival import ready_to_encode
    from clipmill.engine.cluster import connect
    from clipmill.engine.embed_on_ray import EmbedOnRay

    reporter.message(plan.name, "connecting to Ray")
    with connect(settings) as cluster:
        ready, decided = ready_to_encode(cluster, settings, lambda text: reporter.message(plan.name, text))
        check_decoding(plan.settings.decode, decided.device)
        yield EmbedOnRay(plan, model, ready, decided)
