"""The shape of the space, outliers and near-duplicates as a part of the document."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.studies.outliers import Outliers
from clipmill.evaluation.studies.space import Space
from clipmill.report.lookup import rows_at
from clipmill.report.schema.retrieval import Result
from clipmill.report.schema.space import NearPart, SpacePart


def space_part(embeddings: Embeddings, space: Space, outliers: Outliers | None) -> SpacePart:
    """Figures of both towers, and the images to look at with their ids."""
    if outliers is None:
        return SpacePart(figures=space.figures, outliers=[], neighbours=0, near=[])
    pairs = [(pair.one, pair.other, pair.cosine) for pair in outliers.closest]
    shown = [*outliers.positions.tolist(), *(position for one, other, _ in pairs for position in (one, other))]
    images = rows_at(embeddings, "images", ["row", "id"], shown)

    def result(position: int, cosine: float) -> Result:
        return Result(image=position, score=cosine, positive=False, **images[position])

    return SpacePart(
        figures=[*space.figures, *outliers.figures],
        outliers=[
            result(position, cosine)
            for position, cosine in zip(outliers.positions.tolist(), outliers.cosines.tolist(), strict=True)
        ],
        neighbours=outliers.neighbours,
        near=[NearPart(one=result(one, cosine), other=result(other, cosine)) for one, other, cosine in pairs],
    )
