"""The map, clusters and listed queries as parts of the document."""

import numpy as np

from clipmill.datasets.manifests import Embeddings
from clipmill.evaluation.outcomes import PART_OF, Outcomes
from clipmill.evaluation.shown import NO_IMAGE, Colour, Listed, Shown
from clipmill.evaluation.studies.clusters import Clusters
from clipmill.evaluation.studies.map import Map
from clipmill.report.lookup import rows_at
from clipmill.report.queries import TEXT_LENGTH
from clipmill.report.schema.retrieval import Result
from clipmill.report.schema.shown import ClusterPart, ColourPart, ListedPart, MapPart, QueryPart

_ID_LENGTH = 120
"""Of what is listed by the thousand: a page has a size."""


def map_part(embeddings: Embeddings, drawn: Map, shown: Shown) -> MapPart:
    """The points with their ids, their places to a thousandth."""
    rows = rows_at(embeddings, "images", ["id"], drawn.positions.tolist())
    return MapPart(
        method=drawn.method,
        of=embeddings.count("images"),
        images=drawn.positions.tolist(),
        ids=[rows[position]["id"][:_ID_LENGTH] for position in drawn.positions.tolist()],
        x=drawn.places[:, 0].round(3).tolist(),
        y=drawn.places[:, 1].round(3).tolist(),
        colours=[_colour(colour) for colour in shown.colours],
    )


def _colour(colour: Colour) -> ColourPart:
    """With the names that occur alone: of a thousand classes few may be on the map."""
    known = ~np.isnan(colour.values)
    if not colour.names:
        values = [
            round(value, 4) if there else None for value, there in zip(colour.values.tolist(), known, strict=True)
        ]
        return ColourPart(title=colour.title, names=[], values=values)
    present = np.unique(colour.values[known]).astype(np.int64)
    numbers = np.searchsorted(present, np.where(known, colour.values, 0))
    return ColourPart(
        title=colour.title,
        names=[colour.names[number][:_ID_LENGTH] for number in present.tolist()],
        values=[number if there else None for number, there in zip(numbers.tolist(), known, strict=True)],
    )


def cluster_parts(embeddings: Embeddings, clusters: Clusters, names: list[str]) -> list[ClusterPart]:
    """Each cluster with its most typical images, the largest first."""
    rows = rows_at(embeddings, "images", ["row", "id"], clusters.typical[clusters.typical >= 0].tolist())
    return [
        ClusterPart(
            name=name,
            share=int(size) / len(clusters.numbers),
            typical=[
                Result(image=at, score=clusters.silhouette, positive=False, **rows[at]) for at in typical if at >= 0
            ],
        )
        for name, size, typical in zip(names, clusters.sizes, clusters.typical.tolist(), strict=True)
    ]


def listed_part(embeddings: Embeddings, shown: Shown, outcomes: list[Outcomes]) -> ListedPart | None:
    """The queries with their ids and texts; None where nothing was asked."""
    if not shown.listed:
        return None
    return ListedPart(
        columns=list(shown.columns),
        asked={outcome.task: len(outcome) for outcome in outcomes if len(outcome)},
        queries=[query for listed in shown.listed for query in _queries(embeddings, listed)],
    )


def _queries(embeddings: Embeddings, listed: Listed) -> list[QueryPart]:
    part = PART_OF[listed.task]
    columns = ["id", *(["caption"] if part == "captions" else [])]
    rows = rows_at(embeddings, part, columns, listed.positions.tolist())
    made = []
    for number, position in enumerate(listed.positions.tolist()):
        row, image = rows[position], int(listed.images[number])
        text = row.get("caption")
        made.append(
            QueryPart(
                task=listed.task,
                image=image if image != NO_IMAGE else None,
                id=row["id"][:_ID_LENGTH],
                text=text[:TEXT_LENGTH] if text else None,
                label=listed.labels[number],
                given=listed.given[number],
                rank=float(listed.ranks[number]) if listed.ranks is not None else None,
                hit=round(float(listed.hits[number]), 4),
                slices=list(listed.slices[number]),
            )
        )
    return made
