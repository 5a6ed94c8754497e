"""The fit of the two towers as a part of the document."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.retrieval.alignment import Alignment, Histogram, Loss
from clipmill.report.document import AlignmentPart, Figure, HistogramData, PairPart, Result
from clipmill.report.lookup import rows_at
from clipmill.report.parts.figures import bounds, definition_of, figure, histogram_data

_MEAN = "Mean inner product (cosine, as vectors have unit length) of "
_BELOW = (
    "Share of captions that fit their own image less than a caption and an image drawn at random fit on average: an upper "
    "bound, roughly, on captions that have nothing to do with their image."
)


def alignment_part(embeddings: Embeddings, alignment: Alignment) -> AlignmentPart:
    """Histograms, losses and the worst pairs with their captions."""
    matched, unmatched = alignment.matched, alignment.unmatched
    figures = [
        Figure(
            name="matched_cosine",
            title="Matched pairs",
            unit="cosine",
            value=matched.mean,
            n=matched.n,
            **bounds(alignment.matched_mean),
            definition=_MEAN + "captions with their own image: the mean CLIP score.",
        )
    ]
    if unmatched.n:
        figures += [
            Figure(
                name="unmatched_cosine",
                title="Unmatched pairs",
                unit="cosine",
                value=unmatched.mean,
                n=unmatched.n,
                definition=_MEAN + "captions with images drawn at random that are not theirs.",
            ),
            Figure(
                name="cosine_gap",
                title="Gap",
                unit="cosine",
                value=alignment.gap,
                definition=definition_of(Alignment.gap),
            ),
        ]
    if alignment.share_below is not None:
        figures.append(figure("share_below_unmatched", "Below unmatched", "proportion", _BELOW, alignment.share_below))
    for loss in alignment.losses:
        figures += _loss_figures(loss)
    captions = rows_at(embeddings, "captions", ["row", "caption_index", "caption"], alignment.worst.tolist())
    images = rows_at(embeddings, "images", ["row", "id"], alignment.worst_images.tolist())
    worst = [
        PairPart(
            caption=captions[caption]["caption"],
            caption_index=captions[caption]["caption_index"],
            own=Result(image=image, row=images[image]["row"], id=images[image]["id"], score=score, positive=True),
        )
        for caption, image, score in zip(
            alignment.worst.tolist(), alignment.worst_images.tolist(), alignment.worst_scores.tolist(), strict=True
        )
    ]
    return AlignmentPart(
        figures=figures, matched=_data("matched", matched), unmatched=_data("unmatched", unmatched), worst=worst
    )


def _data(name: str, histogram: Histogram) -> HistogramData:
    return histogram_data(name, histogram.edges.tolist(), histogram.counts.tolist(), histogram.mean)


def _loss_figures(loss: Loss) -> list[Figure]:
    at = f"τ = {loss.temperature:.4g}"
    suffix = f"tau_{loss.temperature:.4g}"
    return [
        Figure(
            name=f"info_nce_{suffix}",
            title=f"InfoNCE at {at}",
            unit="nats",
            value=loss.loss,
            n=loss.pairs,
            definition=f"CLIP's symmetric contrastive loss over one batch of {loss.pairs:,} pairs at temperature "
            f"{loss.temperature:.4g}. It rises with the number of pairs: compare only equal ones.",
        ),
        Figure(
            name=f"match_probability_{suffix}",
            title=f"P(match) at {at}",
            unit="proportion",
            value=loss.match_probability,
            n=loss.pairs,
            definition=f"Mean probability that the softmax over the batch's {loss.pairs:,} texts, at temperature "
            f"{loss.temperature:.4g}, gives an image's own text.",
        ),
    ]
