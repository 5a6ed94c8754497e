"""An index built in this process, by the steps that the Ray graph takes."""

from datetime import datetime, timezone
from functools import reduce
from pathlib import Path

import faiss

from pipeline import storage
from pipeline.datasets import vectors_of
from pipeline.index.build import Build, Built, publish_index
from pipeline.index.exact import exact_top_k, merge_top_k
from pipeline.index.factory import from_bytes, nlist_of, to_bytes
from pipeline.index.fill import fill_shard
from pipeline.index.layout import TRAINED_FILE
from pipeline.index.open import open_files, open_index
from pipeline.index.operate import choose_operating_point
from pipeline.index.queries import draw_queries
from pipeline.index.sample import sample_vectors
from pipeline.index.search import Index
from pipeline.index.train import train_index


def build_here(build: Build) -> Index:
    """The index of a build, published and opened, without Ray."""
    settings, gallery, plan = build.settings, build.gallery, build.plan
    faiss.omp_set_num_threads(1)
    storage.make_folder(build.staging)
    sample = sample_vectors(gallery, plan.training_rows, settings.seed)
    trained = to_bytes(train_index(plan.factory, gallery.dimension, sample, settings.seed))
    storage.write_bytes(build.staging / TRAINED_FILE, trained.tobytes())
    digest = storage.sha256(build.staging / TRAINED_FILE)
    filled = [fill_shard(gallery, place, from_bytes(trained), build.staging) for place in build.places]
    queries = draw_queries(gallery, settings.tuning_queries, settings.seed)
    truths = []
    for place in build.places:
        batches = list(gallery.batches(place.start, place.stop, ["embedding"], 1 << 20))
        starts = [place.start + sum(batch.num_rows for batch in batches[:number]) for number in range(len(batches))]
        blocks = [(start, vectors_of(batch.column(0))) for start, batch in zip(starts, batches, strict=True)]
        truths.append(exact_top_k(queries.all, blocks, settings.k))
    truth = reduce(lambda one, other: merge_top_k(one, other, settings.k), truths)
    files = [file for shard in filled for file in shard.files]
    sharded, _ = open_files(build.staging, files, digest, Path("unused"))
    operation = choose_operating_point(
        sharded,
        queries,
        truth,
        settings.k,
        settings.target_recall,
        nlist=nlist_of(sharded.shards[0]),
        exact=plan.exact,
    )
    built = Built(datetime.now(timezone.utc), digest, filled, queries.kind, operation, {"train": 0.0})
    publish_index(build, built, {})
    return open_index(build.output.uri)
