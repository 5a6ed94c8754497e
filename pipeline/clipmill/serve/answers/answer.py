"""An answer as it is sent. Each is wholly of one version, and says which."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from clipmill.core.schemas import GalleryName

Kind = Literal["text", "image", "id", "row", "vector", "several"]


class Recall(BaseModel):
    """Which share of the exact best is promised to be among the results, with its 95% interval.

    ``measured_with`` are the queries that it was measured with; ``applies`` is false where this query is of another kind or
    of more results, for which nothing was measured.
    """

    value: float
    low: float
    high: float
    k: int
    measured_with: str
    applies: bool


class Result(BaseModel):
    """One row. ``score`` is the cosine of its vector with the query."""

    rank: int
    score: float
    row: int
    id: str
    columns: dict[str, Any] | None = None
    caption: str | None = None
    thumbnail: str | None = Field(default=None, description="A data: URI.")
    no_thumbnail: str | None = Field(default=None, description="Why there is no picture.")
    vector: list[float] | None = None


class SearchAnswer(BaseModel):
    """The results of one search, best first."""

    index: str
    version: str | None = Field(
        description="The published version; null for an index that is not one of a published place."
    )
    manifest_sha256: str
    gallery: GalleryName
    n: int = Field(description="Rows of the index.")
    kind: Kind
    k: int
    where: str | None
    rows_selected: int | None = Field(description="Rows that meet `where`; null without it.")
    exact: bool = Field(description="Whether every row that may be returned was scored exactly.")
    recall: Recall | None
    milliseconds: dict[str, float]
    query: list[float] | None = Field(default=None, description="The vector that was searched with, if it is included.")
    results: list[Result]


class Item(BaseModel):
    """One row of an index."""

    index: str
    version: str | None
    row: int
    id: str
    columns: dict[str, Any]
    captions: list[str]
    thumbnail: str | None
    no_thumbnail: str | None
    vector: list[float] | None = None
    others: int = Field(description="Further rows with the same id.")


class IndexFacts(BaseModel):
    """One index that is served."""

    name: str
    version: str | None
    gallery: GalleryName
    n: int
    removed: int = Field(description="Rows that were taken down since the version was made, and are left out.")
    dimension: int
    factory: str
    model: str | None
    exact: bool
    k: int
    recall: Recall
    followed: bool
    thumbnails: bool
    asks_by_row: bool = Field(description="Whether a query may be a row of the index, by its id or number.")
    columns: list[str]
    caution: str = Field(description="What has to be known before results are believed; empty where there is nothing.")


class Column(BaseModel):
    """What there is to choose from in a column: a range, or values with how many rows have each."""

    name: str
    type: str
    kind: Literal["range", "values", "text"]
    low: float | None = None
    high: float | None = None
    values: list[tuple[Any, int]] | None = None
    nulls: int = 0


class Columns(BaseModel):
    """What a page offers to filter by."""

    index: str
    version: str | None
    columns: list[Column]


class Problem(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
