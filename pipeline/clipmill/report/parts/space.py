"""The shape of the space, outliers and near-duplicates as a part of the document."""

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.studies.outliers import NEAREST, Outliers
from clipmill.evaluation.studies.space import ALIGNMENT, EFFECTIVE_RANK, UNIFORMITY, Space, Tower
from clipmill.report.document import Figure, NearPart, Result, SpacePart
from clipmill.report.lookup import rows_at
from clipmill.report.parts.figures import bounds, definition_of, figure


def space_part(embeddings: Embeddings, space: Space, outliers: Outliers | None) -> SpacePart:
    """Figures of both towers, and the images to look at with their ids."""
    figures = []
    if space.modality_gap is not None:
        figures.append(
            Figure(
                name="modality_gap",
                title="Modality gap",
                unit="ratio",
                value=space.modality_gap,
                definition=definition_of(Space.modality_gap),
            )
        )
    if space.alignment is not None:
        figures.append(
            Figure(
                name="alignment",
                title="Alignment",
                unit="ratio",
                value=space.alignment.value,
                n=space.alignment.n,
                definition=ALIGNMENT,
                **bounds(space.alignment),
            )
        )
    for side, tower in (("images", space.images), ("captions", space.captions)):
        figures += _tower_figures(side, tower) if tower else []
    if outliers is None:
        return SpacePart(figures=figures, outliers=[], neighbours=0, near=[])
    figures += [
        figure("near_duplicates", "Near-duplicates", "proportion", Outliers.near_share, outliers.near_interval),
        Figure(
            name="nearest_cosine",
            title="Nearest other image",
            unit="cosine",
            value=outliers.nearest,
            n=outliers.queries,
            definition=NEAREST,
        ),
    ]
    pairs = [(pair.one, pair.other, pair.cosine) for pair in outliers.closest]
    shown = [*outliers.positions.tolist(), *(position for one, other, _ in pairs for position in (one, other))]
    images = rows_at(embeddings, "images", ["row", "id"], shown)

    def result(position: int, cosine: float) -> Result:
        row = images[position]
        return Result(image=position, row=row["row"], id=row["id"], score=cosine, positive=False)

    return SpacePart(
        figures=figures,
        outliers=[
            result(position, cosine)
            for position, cosine in zip(outliers.positions.tolist(), outliers.cosines.tolist(), strict=True)
        ],
        neighbours=outliers.neighbours,
        near=[NearPart(one=result(one, cosine), other=result(other, cosine)) for one, other, cosine in pairs],
    )


def _tower_figures(side: str, tower: Tower) -> list[Figure]:
    """A figure a property; those that take two vectors are left out of one."""
    rows = (
        ("norm_of_mean", "Norm of the mean", tower.norm_of_mean, tower.n, definition_of(Tower.norm_of_mean)),
        ("effective_rank", "Effective rank", tower.effective_rank, tower.n, EFFECTIVE_RANK),
        ("uniformity", "Uniformity", tower.uniformity, tower.uniformity_n, UNIFORMITY),
    )
    return [
        Figure(
            name=f"{name}_{side}",
            title=f"{title}, {side}",
            unit="ratio",
            value=value,
            n=n,
            definition=definition,
        )
        for name, title, value, n, definition in rows
        if value is not None
    ]
