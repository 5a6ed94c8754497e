"""The fit of the two towers as a part of the document."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval.alignment import Alignment
from clipmill.report.lookup import rows_at
from clipmill.report.schema.retrieval import Result
from clipmill.report.schema.space import AlignmentPart, PairPart


def alignment_part(embeddings: Embeddings, alignment: Alignment) -> AlignmentPart:
    """Figures, histograms, and the worst pairs with their captions."""
    worst = zip(alignment.worst.tolist(), alignment.worst_images.tolist(), alignment.worst_scores.tolist(), strict=True)
    captions = rows_at(embeddings, "captions", ["row", "caption_index", "caption"], alignment.worst.tolist())
    images = rows_at(embeddings, "images", ["row", "id"], alignment.worst_images.tolist())
    return AlignmentPart(
        figures=alignment.figures,
        matched=alignment.matched,
        unmatched=alignment.unmatched,
        worst=[
            PairPart(
                caption=captions[caption]["caption"],
                caption_index=captions[caption]["caption_index"],
                own=Result(image=image, score=score, positive=True, **images[image]),
            )
            for caption, image, score in worst
        ],
    )
