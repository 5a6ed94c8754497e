"""The graph that finds near-duplicates on Ray: one task a strip of the gallery, each of which leaves its pairs."""

from collections.abc import Callable
from typing import Any

import ray

from clipmill import storage
from clipmill.core.schemas import DuplicatesManifest
from clipmill.core.settings import ClusterSettings
from clipmill.curate import steps
from clipmill.curate.dedup import Dedup, publish_duplicates
from clipmill.engine.cluster import Cluster, cause_of
from clipmill.engine.tasks import Tasks, begin_task, signs_to, threads_each
from clipmill.index.build.layout import ShardPlace
from clipmill.storage.lease import owned


def find_duplicates(
    dedup: Dedup,
    cluster: Cluster,
    settings: ClusterSettings,
    on_compared: Callable[[int], object],
    on_found_done: Callable[[int], object],
) -> DuplicatesManifest:
    """Compares what is left to compare and publishes. ``on_compared`` is given the number of comparisons just done,
    ``on_found_done`` once how many were done before.

    Raises RunFailed when a strip fails for good; what was done is kept, and the same command continues from it.
    """
    with owned(storage.staging_of(dedup.output)) as ownership:
        dedup.staging.open(overwrite=dedup.settings.overwrite)
        steps.rotate(dedup)
        waiting = steps.to_compare(dedup)
        done = [strip for strip in dedup.strips if strip not in waiting]
        start = dedup.staging.note_start(sum(strip.rows for strip in done))
        on_found_done(sum(comparisons(dedup, strip) for strip in done))
        try:
            tasks = Tasks(settings.stall_timeout)
            shared = ray.put(dedup)
            threads = threads_each(len(waiting))
            for strip in waiting:
                what = f"comparing rows {strip.start:,} to {strip.stop - 1:,} of {dedup.gallery.dataset.location}"

                def then(_: object, strip: ShardPlace = strip) -> None:
                    on_compared(comparisons(dedup, strip))

                tasks.start(what, _compare, shared, tasks.tally, threads, strip, cpus=threads, then=then)
            tasks.wait()
        except ray.exceptions.RayError as error:
            raise cause_of(error, "finding near-duplicates") from error
        hardware = {"cpus": cluster.cpus, "nodes": cluster.nodes}
        return publish_duplicates(dedup, start, steps.collect(dedup), hardware, ownership.check)


def comparisons(dedup: Dedup, strip: ShardPlace) -> int:
    """Pairs of vectors whose first is in a strip."""
    after = dedup.gallery.n - strip.stop
    return strip.rows * (strip.rows - 1) // 2 + strip.rows * after


def _compare(dedup: Dedup, tally: Any, threads: int, strip: ShardPlace) -> None:
    begin_task(threads)
    steps.compare(dedup, strip, signs_to(tally))
