"""Finding near-duplicates: a piece of work for each strip of vectors, compared with itself and with all after it."""

from clipmill.core.manifests import DuplicatesManifest
from clipmill.core.reporter import Reporter
from clipmill.curate import steps
from clipmill.curate.dedup import Dedup, finish_duplicates
from clipmill.index.build.layout import ShardRange
from clipmill.stage.pieces import Alive, Pieces
from clipmill.stage.stage import Work


def find_duplicates(dedup: Dedup, work: Work, pieces: Pieces, reporter: Reporter) -> DuplicatesManifest:
    """Compares what is left to compare and returns the manifest; `clipmill.stage.stage` publishes it.

    Raises RunFailed when a strip fails for good; what was done is kept, and the same command continues from it.
    """
    steps.rotate(dedup)
    waiting = steps.to_compare(dedup)
    finished = [strip for strip in dedup.strips if strip not in waiting]
    start = work.start(sum(strip.rows for strip in finished))
    total = sum(comparisons(dedup, strip) for strip in dedup.strips)
    done = sum(comparisons(dedup, strip) for strip in finished)

    def note(strip: ShardRange | None) -> None:
        nonlocal done
        done += comparisons(dedup, strip) if strip else 0
        reporter.progress(dedup.name, done, total, "comparisons")

    note(None)
    shared = pieces.share(dedup)
    cores, gpus = pieces.cores_each(len(waiting)), int(dedup.settings.products == "gpu")
    for strip in waiting:
        what = f"comparing rows {strip.start:,} to {strip.stop - 1:,} of {dedup.gallery.dataset.location}"
        pieces.start(what, _compare, shared, strip, cores=cores, gpus=gpus, then=note)
    pieces.wait()
    return finish_duplicates(dedup, start, steps.collect(dedup), pieces.hardware)


def comparisons(dedup: Dedup, strip: ShardRange) -> int:
    """Pairs of vectors whose first is in a strip."""
    after = dedup.gallery.n - strip.stop
    return strip.rows * (strip.rows - 1) // 2 + strip.rows * after


def _compare(alive: Alive, dedup: Dedup, strip: ShardRange) -> ShardRange:
    steps.compare(dedup, strip, alive)
    return strip
