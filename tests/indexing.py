"""An index built in this process, by the steps that the Ray graph takes."""

import faiss

from clipmill import storage
from clipmill.core.manifests import IndexManifest
from clipmill.index.build import steps
from clipmill.index.build.build import Build
from clipmill.index.build.finish import publish_index
from clipmill.index.build.unfinished import open_build
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.storage.lease import Lease


def run_here(build: Build, threads: int = 1) -> IndexManifest:
    """Builds what is left of an index and publishes it, without Ray."""
    faiss.omp_set_num_threads(threads)
    with Lease.acquire(storage.staging_of(build.output)) as ownership:
        progress = open_build(build)
        steps.draw(build)
        for place in progress.to_search:
            steps.search_exactly(build, place)
        trained = progress.trained or steps.train(build)
        data = steps.trained_bytes(build, trained)
        for place in progress.to_fill:
            steps.fill(build, place, data, trained.sha256)
        steps.tune(build, trained)
        return publish_index(build, progress, trained, {}, ownership.check)


def build_here(build: Build) -> Index:
    """The index of a build, published and opened."""
    run_here(build)
    return open_index(build.output.uri)
