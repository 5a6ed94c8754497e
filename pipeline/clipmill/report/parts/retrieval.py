"""Retrieval results and example queries as parts of the document."""

from collections.abc import Mapping
from typing import Any

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval.ceiling import Ceiling
from clipmill.evaluation.retrieval.examples import Example
from clipmill.evaluation.retrieval.retrieval import Retrieval
from clipmill.report.lookup import rows_at
from clipmill.report.schema.retrieval import ExamplePart, Result, RetrievalPart, SampledPart, StratumPart


def retrieval_part(result: Retrieval, ceiling: Ceiling, settings: Mapping[str, Any]) -> RetrievalPart:
    """One direction with its ceiling; ``settings`` are those of the evaluation, by name."""
    return RetrievalPart(
        direction=result.direction,
        queries=result.queries,
        gallery=result.gallery,
        without_positive=result.without_positive,
        gallery_only=result.gallery_only,
        ties=result.ties,
        figures=result.figures,
        ceiling={k: ceiling.recall(k) for k in ceiling.hits},
        curve={k: result.recall(k) for k in result.hits},
        repeated_captions=ceiling.repeated_captions,
        repeated_images=ceiling.repeated_images,
        most_positives=result.most_positives,
        smaller=result.smaller,
        sampled=_sampled(result, settings),
    )


def _sampled(result: Retrieval, settings: Mapping[str, Any]) -> SampledPart | None:
    if result.of is None:
        return None
    return SampledPart(
        of=result.of,
        seed=settings["seed"],
        columns=list(settings["slice_by"]),
        strata=[StratumPart(drawn=stratum.drawn, queries=stratum.queries) for stratum in result.strata],
    )


def example_parts(embeddings: Embeddings, examples: list[Example]) -> list[ExamplePart]:
    """Example t2i queries with the captions and ids that belong to them."""
    captions = rows_at(embeddings, "captions", ["row", "id", "caption"], [example.query for example in examples])
    shown = [int(position) for example in examples for position in (example.own, *example.results)]
    images = rows_at(embeddings, "images", ["row", "id"], shown)
    parts = []
    for example in examples:
        caption = captions[example.query]
        pairs = [(example.own, example.score), *zip(example.results.tolist(), example.scores.tolist(), strict=True)]
        own, *results = (
            Result(image=image, score=score, positive=images[image]["row"] == caption["row"], **images[image])
            for image, score in pairs
        )
        parts.append(ExamplePart(kind=example.kind, rank=example.rank, own=own, results=results, **caption))
    return parts
