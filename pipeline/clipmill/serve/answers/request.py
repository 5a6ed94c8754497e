"""A question as it is sent: words, a picture, an id, a row or a vector, or several with weights."""

from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from clipmill.core.schemas import GalleryName

Include = Literal["columns", "caption", "thumbnail", "vector", "query"]
Weight = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[int, Field(ge=0, lt=2**53)]
WAYS = ("text", "image", "id", "row", "vector")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str | None = Field(default=None, description="Words.")
    image: Base64Bytes | None = Field(default=None, description="An encoded picture (JPEG, PNG, …) in base64.")
    id: str | None = Field(default=None, description="The id of a row of the index: like that one.")
    row: Row | None = Field(default=None, description="The row number of a row of the index.")
    vector: list[Number] | None = Field(default=None, description="A vector made by the model of the index.")

    @property
    def ways(self) -> list[str]:
        return [way for way in WAYS if getattr(self, way) is not None]


class QueryPart(_Part):
    """One of text, image, id, row and vector, with its weight: a negative one leads away from it."""

    weight: Weight = Field(default=1.0, description="Its share in the query; negative: less like this.")

    @model_validator(mode="after")
    def _one_way(self) -> "QueryPart":
        if len(self.ways) != 1:
            raise ValueError(
                f"each part of a query is one of {', '.join(WAYS)}; {', '.join(self.ways) or 'none'} given"
            )
        return self


class SearchRequest(_Part):
    """A search: one of text, image, id, row and vector, or several of them as ``query``."""

    query: list[QueryPart] | None = Field(default=None, min_length=1, description="Several parts at once, weighted.")
    index: str | None = Field(default=None, max_length=200, description="The name of an index; by default the first.")
    gallery: GalleryName | None = Field(default=None, description="What to find; by default what the index holds.")
    k: int = Field(default=10, ge=1, description="Results.")
    where: str | None = Field(default=None, description="An SQL condition on the columns of the index.")
    include: list[Include] = Field(
        default=["columns"],
        max_length=8,
        description="What each result comes with beside rank, score, row and id; `query` is the vector that was searched with.",
    )

    @model_validator(mode="after")
    def _asks(self) -> "SearchRequest":
        given = self.ways + (["query"] if self.query else [])
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(WAYS)} and query; {', '.join(given) or 'none'} was given")
        return self

    @property
    def parts(self) -> list[QueryPart]:
        if self.query:
            return self.query
        (way,) = self.ways
        return [QueryPart.model_construct(**{way: getattr(self, way)})]
