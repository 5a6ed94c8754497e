"""Filtering in pieces of work, a strip of rows each, and what they are published with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from clipmill.core import environment
from clipmill.core.errors import RunFailed
from clipmill.core.manifests import Run, SelectionManifest
from clipmill.core.reporter import Reporter
from clipmill.curate.filter import DROPPED, KEPT, Filter
from clipmill.curate.filter_steps import Common, Sifted, filter_strip, rows_to_drop
from clipmill.datasets.shards import write_shards
from clipmill.index.build.layout import ShardRange
from clipmill.stage.checkpoints import load, save
from clipmill.stage.pieces import Alive, Pieces
from clipmill.stage.stage import Work
from clipmill.stage.staging import Started

Encode = Callable[[list[str]], NDArray[np.float32]]


def keep_rows(filter_: Filter, work: Work, encode: Encode, pieces: Pieces, reporter: Reporter) -> SelectionManifest:
    """Filters the strips that no earlier start has, and returns the manifest; `clipmill.stage.stage` publishes it. ``encode``
    gives unit vectors of texts and is called only where there are prompts.

    Raises RunFailed when a piece fails for good; what was done is kept, and the same command continues from it.
    """
    sifted = {strip: load(filter_.strip(strip), Sifted) for strip in filter_.strips}
    done = sum(strip.rows for strip, found in sifted.items() if found is not None)
    start = work.start(done)
    duplicates = None if filter_.duplicates is None else rows_to_drop(filter_.duplicates)
    reporter.progress(filter_.name, done, filter_.gallery.n, "rows")
    shared = pieces.share((filter_, Common(_encoded(filter_, encode), duplicates)))

    def take(result: tuple[ShardRange, Sifted]) -> None:
        nonlocal done
        strip, sifted[strip] = result
        done += strip.rows
        reporter.progress(filter_.name, done, filter_.gallery.n, "rows")

    for strip, found in sifted.items():
        if found is None:
            what = f"filtering rows {strip.start:,} to {strip.stop - 1:,} of {filter_.gallery.dataset.location}"
            pieces.start(what, _filter, shared, strip, then=take)
    pieces.wait()
    return _manifest(filter_, work, start, [found for found in sifted.values() if found is not None], pieces)


def _filter(alive: Alive, shared: tuple[Filter, Common], strip: ShardRange) -> tuple[ShardRange, Sifted]:
    return strip, filter_strip(*shared, strip, alive)


def _encoded(filter_: Filter, encode: Encode) -> NDArray[np.float32] | None:
    """The vectors of the prompts, as the first start encoded them: all strips are judged by the same."""
    if not filter_.prompts:
        return None
    found = load(filter_.encoded, list[NDArray[np.float32]])
    if found is None:
        found = [encode([prompt.text for prompt in filter_.prompts])]
        save(filter_.encoded, found)
    return found[0]


def _manifest(filter_: Filter, work: Work, start: Started, sifted: list[Sifted], pieces: Pieces) -> SelectionManifest:
    files = list(chain.from_iterable(one.files for one in sifted))
    ordered = [file for part in (KEPT, DROPPED) for file in files if file.part == part]
    rows = {part: sum(file.rows for file in files if file.part == part) for part in (KEPT, DROPPED)}
    dataset, n = filter_.gallery.dataset, filter_.gallery.n
    if sum(rows.values()) != n:
        raise RunFailed(f"{dataset.location} holds {sum(rows.values())} images and not {n}; verify it")
    now = datetime.now(timezone.utc)
    return SelectionManifest(
        rows=n,
        kept=rows[KEPT],
        dropped=rows[DROPPED],
        dropped_by_reason={name: sum(one.by_reason[name] for one in sifted) for name in sifted[0].by_reason},
        prompts=[prompt.text for prompt in filter_.prompts],
        configuration=filter_.settings.content(),
        embeddings=dataset.location.uri,
        embeddings_manifest_sha256=dataset.manifest_sha256,
        duplicates_manifest_sha256=filter_.duplicates_sha256,
        shards_sha256=write_shards(work.dataset, ordered),
        runs=[
            *start.earlier,
            Run(started=start.at, finished=now, rows_encoded=n - start.rows_reused, rows_reused=start.rows_reused),
        ],
        software=environment.software(),
        hardware=pieces.hardware,
    )
