"""Which plan of a build is followed: the next one where an index was built and missed the target."""

from dataclasses import replace

from clipmill.core.manifests import GALLERY_VECTORS, Promise, Tried
from clipmill.index.build.build import Build
from clipmill.index.build.unfinished import (
    Attempts,
    Drawn,
    Trained,
    Tuned,
    Unfinished,
    read_filled,
    read_record,
    resident_bytes,
    write_record,
)
from clipmill.stage.checkpoints import load


def where_it_stands(build: Build) -> Build:
    """The build with the plan that an earlier start got to, where one got further than the first."""
    found = read_record(Unfinished(build).attempts, Attempts)
    return build if found is None else replace(build, attempt=found.attempt)


def missed_before(build: Build) -> list[Tried]:
    """The kinds of index that missed the target."""
    found = read_record(Unfinished(build).attempts, Attempts)
    return [] if found is None else found.missed


def next_attempt(build: Build, trained: Trained) -> Build | None:
    """The build with the next plan, where the index that was just tuned misses the target for what was asked for; None where it
    does not, or there is no other. A start after this one follows it too."""
    missed = missed_promise(build) if build.follows else None
    if missed is None or build.attempt + 1 == len(build.plans):
        return None
    held = resident_bytes(trained, read_filled(Unfinished(build), trained), build.gallery.dimension).total
    tried = Tried(
        factory=build.plan.factory,
        k=missed.k,
        query_kind=missed.query_kind,
        recall=missed.measured_recall,
        bytes=held,
    )
    attempt = build.attempt + 1
    write_record(Unfinished(build).attempts, Attempts(attempt, [*missed_before(build), tried]))
    return replace(build, attempt=attempt)


def missed_promise(build: Build) -> Promise | None:
    """The first promise that was asked for and is not kept: for -k and for what --tune-k names, to queries of the first kind.
    Others are made because they are useful, and told where they are not kept."""
    place = Unfinished(build)
    drawn, tuned = load(place.queries, Drawn), load(place.operation, Tuned)
    if drawn is None or tuned is None:
        return None  # who reads them next says so
    kind, asked = drawn.queries.kind, build.settings.tune_k or ()
    if kind == GALLERY_VECTORS:
        return None  # of what will be asked, nothing is known
    operation = tuned.operation
    first = Promise(query_kind=kind, k=build.settings.k, target_met=operation.met, operating_point=operation.point)
    others = [promise for promise in tuned.promises if promise.query_kind == kind and promise.k in asked]
    return next((promise for promise in (first, *others) if not promise.target_met), None)
