"""Single images and queries in ``report.json``: the map, clusters, listed queries, and small pictures of all of them."""

from clipmill.core.manifests import Record
from clipmill.report.schema.retrieval import Result


class ColourPart(Record):
    """What points are coloured by: ``values`` are numbers of ``names`` or, without names, on a scale; null: not known."""

    title: str
    names: list[str]
    values: list[float | None]


class MapPart(Record):
    """Places of the ``images`` (positions), of ``of`` in all, on a plane: ``x`` and ``y`` from 0 to 1, y downwards."""

    method: str
    of: int
    images: list[int]
    ids: list[str]
    x: list[float]
    y: list[float]
    colours: list[ColourPart]


class ClusterPart(Record):
    """Images that are alike: ``share`` of those on the map, what they have in common (empty: not known), the most typical."""

    name: str
    share: float
    typical: list[Result]


class QueryPart(Record):
    """A query and how it came out. ``image`` is its own image, null without one; ``hit`` the probability that the right answer
    came first, ``given`` the class that did; ``rank`` is null for classification. ``slices`` are by the listing's columns."""

    task: str
    image: int | None
    id: str
    text: str | None
    label: str | None
    given: str | None
    rank: float | None
    hit: float
    slices: list[str]


class ListedPart(Record):
    """The hardest queries and some drawn at random; ``asked`` is how many were asked of each task."""

    columns: list[str]
    asked: dict[str, int]
    queries: list[QueryPart]


class SheetPart(Record):
    """Small pictures in one: number i, from the left and downwards, is of ``images[i]``, in a square of ``side`` pixels."""

    side: int
    across: int
    images: list[int]
    picture: str
