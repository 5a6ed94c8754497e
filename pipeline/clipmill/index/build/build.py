"""Building an index, before the work: what is to be made, and whether it is there already."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import faiss

from clipmill.core.errors import UserError
from clipmill.core.manifests import IndexManifest
from clipmill.core.schemas import RerankKind
from clipmill.core.settings import IndexSettings
from clipmill.index.build.factory import empty_index
from clipmill.index.build.foreign import Foreign, look_at_foreign
from clipmill.index.build.gallery import Gallery
from clipmill.index.build.ladder import plans_for
from clipmill.index.build.layout import ShardRange, places
from clipmill.index.build.plan import Plan, plan_foreign, plan_index
from clipmill.index.build.searches import Searches
from clipmill.index.search.limits import MAX_RESULTS
from clipmill.index.search.selection import selects
from clipmill.stage.derived import differences_of_derived
from clipmill.stage.kinds import INDEX
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Stage

TUNED_ON = "tune_on_sha256"
"""In the configuration of an index that was tuned on a file of searches: that of the file."""


@dataclass(frozen=True)
class Build(Stage[IndexManifest]):
    """Everything that building an index does, fixed before it starts."""

    name = "index"
    kind = INDEX
    settings: IndexSettings
    gallery: Gallery
    plans: tuple[Plan, ...]
    """The kinds of index that are tried one after the other until the target is reached."""
    attempt: int = 0
    """The number of the plan that is followed."""
    follows: bool = True
    """Whether the next plan is followed where this one misses the target."""
    cuts: tuple[int, ...] | None = None
    """Positions at which shards begin, and n at the end; None cuts them evenly."""
    foreign: Foreign | None = None
    """An index file made elsewhere, which takes the place of training and filling."""
    searches: Searches | None = None
    """What it is tuned on, where that is not a part of the dataset."""

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for work done by one build to be of use to another."""
        plan = self.plans[0]  # which of them is followed is found out by the work
        cuts = {} if self.cuts is None else {"cuts": list(self.cuts)}
        return {
            "embeddings": self.gallery.dataset.manifest_sha256,
            "configuration": self.configuration,
            **cuts,
            "plan": {
                "factory": plan.factory,
                "shards": len(self.places),
                "training_rows": plan.training_rows,
                **({"directions": plan.directions} if plan.directions else {}),
            },
            "version of FAISS": faiss.__version__,
        }

    @property
    def plan(self) -> Plan:
        """The index that is built."""
        return self.plans[self.attempt]

    @property
    def configuration(self) -> dict[str, Any]:
        """The settings that decide the content, as they are written to the manifest."""
        foreign = None if self.foreign is None else self.foreign.sha256
        tuned_on = {} if self.searches is None else {TUNED_ON: self.searches.sha256}
        return {**self.settings.content(), "foreign_sha256": foreign, **tuned_on}

    def differences(self, found: IndexManifest) -> list[str]:
        """How an index at the output differs from what this build makes, in words."""
        configuration = {TUNED_ON: None, **self.configuration}
        return differences_of_derived(found, configuration, self.gallery.dataset.manifest_sha256)

    @property
    def outline(self) -> Outline:
        """Training, an exact search and a filling for each shard, and tuning."""
        shards = len(self.places)
        return Outline(
            stage=self.name,
            steps=(
                Step(doing="training", total=1, files={"trained.json": 1}),
                Step(doing="searching shards exactly", total=shards, files={"truths/*.npz": 1}),
                Step(doing="filling shards", total=shards, files={"shards/*.json": 1}),
                Step(doing="tuning", total=1, files={"operation.npz": 1}),
            ),
        )

    @property
    def rerank_kind(self) -> RerankKind:
        """How vectors are stored for re-ranking."""
        return self.settings.rerank_vectors or "float16"

    @property
    def numbers_of_results(self) -> list[int]:
        """Those that the index is tuned for, ``k`` first. An exact index finds all, whatever their number."""
        settings = self.settings
        others = () if self.plan.exact else settings.tune_k if settings.tune_k is not None else (10 * settings.k,)
        most = max(1, min(self.gallery.n, MAX_RESULTS) - 1)  # one more is searched for where queries are of the gallery
        return list(dict.fromkeys([settings.k, *(min(k, most) for k in sorted(others) if k != settings.k)]))

    @cached_property
    def places(self) -> list[ShardRange]:
        if self.cuts is None:
            return places(self.gallery.n, self.plan.shards)
        return [ShardRange(number, *bounds) for number, bounds in enumerate(pairwise(self.cuts))]


def make_build(settings: IndexSettings) -> Build:
    """Opens the embeddings and plans their index. Raises UserError for what cannot be indexed as it is asked."""
    gallery = Gallery.open(settings.embeddings, settings.gallery)
    searches = Searches.of(settings.tune_on, "--tune-on") if settings.tune_on is not None else None
    if settings.foreign is not None:
        if settings.factory != "auto" or settings.shards not in (None, 1):
            raise UserError("--foreign takes an index as it is; leave out --factory and --shards")
        foreign = look_at_foreign(settings.foreign, gallery)
        plan = plan_foreign(foreign.factory, foreign.nlist)
        return Build(settings, gallery, (plan,), foreign=foreign, searches=searches)
    n, dimension, memory, target = gallery.n, gallery.dimension, settings.memory, settings.target_recall
    if settings.factory != "auto":
        plan = plan_index(n, dimension, memory, target, factory=settings.factory, shards=settings.shards)
        if settings.rerank_vectors == "none" and not selects(empty_index(settings.factory, dimension)):
            raise UserError(
                f"--rerank-vectors none: {settings.factory} leaves no rows out while it is searched, so rows that were taken "
                "down or do not meet a condition could not be left out without stored vectors; give int8 or float16"
            )
        return Build(settings, gallery, (plan,), searches=searches)
    return Build(settings, gallery, plans_for(n, dimension, memory, target, settings.shards), searches=searches)
