"""Index fidelity as a part of the document."""

import numpy as np

from clipmill.core.manifests import IndexManifest
from clipmill.evaluation.fidelity import Fidelity
from clipmill.evaluation.figures import metric
from clipmill.evaluation.results import HistogramData, SlicesPart, ThroughPart
from clipmill.report.schema.index import FidelityPart

_BINS = 40


def fidelity_part(
    result: Fidelity,
    manifest: IndexManifest,
    uri: str,
    through: ThroughPart | None = None,
    slices: SlicesPart | None = None,
    *,
    resident: bool = False,
) -> FidelityPart:
    """Recall against exact search, latency and size of one index at its tuned settings, the recall ``through`` it, and
    its own by ``slices``. ``resident``: it was measured with the vectors for re-ranking in memory.

    The slowest 1% of queries are left out of the histogram of latencies, bars and mean.
    """
    nprobe, rerank = manifest.promise_of(result.query_kind, result.k).at(result.k)
    times = result.seconds * 1000
    shown = times[times <= np.percentile(times, 99)]
    counts, edges = np.histogram(shown, _BINS, (0.0, float(shown.max()) or 1e-3))
    return FidelityPart(
        uri=uri,
        factory=manifest.factory,
        exact=manifest.exact,
        gallery=manifest.gallery,
        n=manifest.n,
        query_kind=result.query_kind,
        queries=result.queries,
        nprobe=nprobe,
        rerank=rerank,
        figures=[
            *result.figures,
            metric("index.bytes_per_vector", rerank=_rerank_vectors(manifest, resident=resident)).figure(
                manifest.bytes_per_vector, manifest.n
            ),
        ],
        latency=HistogramData(
            name="milliseconds per query",
            edges=edges.tolist(),
            counts=counts.tolist(),
            mean=float(shown.mean()),
            n=len(shown),
        ),
        memory=manifest.memory,
        through=through,
        slices=slices,
    )


def _rerank_vectors(manifest: IndexManifest, *, resident: bool) -> str:
    """Where the vectors for re-ranking are, which the bytes in memory do not count."""
    if not manifest.operating_point.rerank:
        return "nothing is re-ranked, so search reads nothing else"
    each = f"{manifest.bytes_of_stored // manifest.n:,} bytes each"
    if resident:
        return (
            f"the vectors for re-ranking are not among them: {each}, which were in memory as well for this measurement"
        )
    return (
        f"the vectors for re-ranking are not among them: {each}, on disk, of which the system keeps in memory what it has room "
        "for"
    )
