"""Retrieval results and example queries as parts of the document."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval.ceiling import Ceiling
from clipmill.evaluation.retrieval.examples import Example
from clipmill.evaluation.retrieval.folds import Protocol
from clipmill.evaluation.retrieval.retrieval import MEDIAN_RANK, NDCG_AT, RECALL_AT, Retrieval
from clipmill.report.document import ExamplePart, ProtocolPart, Result, RetrievalPart
from clipmill.report.lookup import rows_at
from clipmill.report.parts.figures import figure


def retrieval_part(result: Retrieval, ceiling: Ceiling) -> RetrievalPart:
    """One direction with its ceiling."""
    intervals = result.intervals
    figures = [
        figure(f"{result.direction}_recall@{k}", f"R@{k}", "proportion", Retrieval.recall, intervals[f"recall@{k}"])
        for k in RECALL_AT
    ]
    figures += [
        figure(f"{result.direction}_median_rank", "Median rank", "rank", MEDIAN_RANK, intervals["median_rank"]),
        figure(f"{result.direction}_mean_rank", "Mean rank", "rank", Retrieval.mean_rank, intervals["mean_rank"]),
        figure(
            f"{result.direction}_mean_reciprocal_rank",
            "MRR",
            "ratio",
            Retrieval.mean_reciprocal_rank,
            intervals["mean_reciprocal_rank"],
        ),
    ]
    figures += [
        figure(
            f"{result.direction}_true_recall@{k}",
            f"True recall@{k}",
            "proportion",
            Retrieval.true_recall,
            intervals[f"true_recall@{k}"],
        )
        for k in RECALL_AT
    ]
    figures += [
        figure(
            f"{result.direction}_ndcg@{NDCG_AT}", f"nDCG@{NDCG_AT}", "ratio", Retrieval.mean_ndcg, intervals["ndcg"]
        ),
        figure(
            f"{result.direction}_mean_average_precision",
            "mAP",
            "ratio",
            Retrieval.mean_average_precision,
            intervals["mean_average_precision"],
        ),
    ]
    return RetrievalPart(
        direction=result.direction,
        queries=result.queries,
        gallery=result.gallery,
        without_positive=result.without_positive,
        gallery_only=result.gallery_only,
        ties=result.ties,
        figures=figures,
        ceiling={k: ceiling.recall(k) for k in ceiling.hits},
        curve={k: result.recall(k) for k in result.hits},
        repeated_captions=ceiling.repeated_captions,
        repeated_images=ceiling.repeated_images,
        most_positives=result.most_positives,
        smaller=result.smaller,
    )


FOLD_RECALL = (
    "Hit rate as R@K, in galleries of so many images with all their captions, as COCO's 1k and 5k protocols have it; mean "
    "over the folds."
)


def protocol_parts(protocols: list[Protocol]) -> list[ProtocolPart]:
    """Both directions of each protocol."""
    return [
        ProtocolPart(
            name=protocol.name,
            direction=direction,
            folds=protocol.folds,
            images=protocol.images,
            captions=protocol.captions,
            figures=[
                figure(f"{direction}_{protocol.name}_recall@{k}", f"R@{k}", "proportion", FOLD_RECALL, interval)
                for k, interval in recall.items()
            ],
        )
        for protocol in protocols
        for direction, recall in protocol.recall.items()
    ]


def example_parts(embeddings: Embeddings, examples: list[Example]) -> list[ExamplePart]:
    """Example t2i queries with the captions and ids that belong to them."""
    captions = rows_at(embeddings, "captions", ["row", "id", "caption"], [example.query for example in examples])
    shown = [int(position) for example in examples for position in (example.own, *example.results)]
    images = rows_at(embeddings, "images", ["row", "id"], shown)
    parts = []
    for example in examples:
        caption = captions[example.query]

        def result(position: int, score: float, row: int = caption["row"]) -> Result:
            image = images[position]
            return Result(image=position, row=image["row"], id=image["id"], score=score, positive=image["row"] == row)

        pairs = zip(example.results.tolist(), example.scores.tolist(), strict=True)
        parts.append(
            ExamplePart(
                kind=example.kind,
                caption=caption["caption"],
                row=caption["row"],
                id=caption["id"],
                rank=example.rank,
                own=result(example.own, example.score),
                results=[result(position, score) for position, score in pairs],
            )
        )
    return parts
