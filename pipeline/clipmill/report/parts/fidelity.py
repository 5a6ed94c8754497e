"""Index fidelity as a part of the document."""

import numpy as np

from clipmill.core.manifests import IndexManifest
from clipmill.evaluation.fidelity import Fidelity
from clipmill.evaluation.retrieval.through_index import DIFFERENCE, EXACT, THROUGH, ThroughIndex
from clipmill.report.document import FidelityPart, Figure, ThroughPart
from clipmill.report.parts.figures import definition_of, figure, histogram_data

_BINS = 40


def fidelity_part(
    result: Fidelity, manifest: IndexManifest, uri: str, through: ThroughIndex | None = None
) -> FidelityPart:
    """Recall against exact search, latency and size of one index at its tuned settings."""
    k = result.k
    figures = [
        figure(
            f"{k}_recall@{k}",
            f"{k}-recall@{k}",
            "proportion",
            Fidelity.k_recall_at_k,
            result.intervals["k_recall_at_k"],
        ),
        figure(
            "1_recall@1", "1-recall@1", "proportion", Fidelity.one_recall_at_one, result.intervals["one_recall_at_one"]
        ),
    ]
    figures += [
        Figure(
            name=f"latency_p{percentile}",
            title=f"p{percentile}",
            unit="milliseconds",
            value=result.milliseconds(percentile),
            n=result.queries,
            definition=definition_of(Fidelity.milliseconds),
        )
        for percentile in (50, 95, 99)
    ]
    resident = manifest.memory["total"]
    figures.append(
        Figure(
            name="bytes_per_vector",
            title="Bytes a vector",
            unit="bytes",
            value=resident / manifest.n,
            n=manifest.n,
            definition="What search keeps resident (codes, ids, centroids, tables), divided by the number of vectors.",
        )
    )
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
        nprobe=manifest.operating_point.nprobe,
        rerank=manifest.operating_point.rerank,
        figures=figures,
        latency=histogram_data("milliseconds a query", edges.tolist(), counts.tolist(), float(times.mean())),
        memory=manifest.memory,
        through=_through_part(through, manifest.gallery) if through else None,
    )


def _through_part(result: ThroughIndex, gallery: str) -> ThroughPart:
    columns = (
        ("exact", EXACT, result.exact),
        ("index", THROUGH, result.through),
        ("less", DIFFERENCE, result.difference),
    )
    return ThroughPart(
        direction="t2i" if gallery == "images" else "i2t",
        queries=result.queries,
        figures=[
            figure(f"{name}_recall@{k}", f"R@{k}", "proportion", definition, intervals[k])
            for k in result.exact
            for name, definition, intervals in columns
        ],
    )
