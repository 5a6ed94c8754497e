"""What a search finds, as rows of a table and as pictures in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill.report.look.styles import notebook_style
from clipmill.report.results.page import picture_uri
from clipmill.report.results.pictures import Pictures, pictures_of_results

if TYPE_CHECKING:
    import pandas as pd

    from clipmill.core.manifests import IndexManifest


@dataclass(frozen=True)
class Hit:
    """One result: ``rank`` counts from 1, ``score`` is the cosine, ``columns`` are those kept from the source (of a
    gallery of captions: the caption and its index)."""

    rank: int
    score: float
    row: int
    id: str
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """The results of one query, best first. ``table`` has a row a hit: rank, score, row, id, and the index's columns."""

    query: str
    table: pa.Table
    searched: IndexManifest | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """The ``row`` of each hit, int64 (hits)."""
        rows: NDArray[np.int64] = self.table.column("row").to_numpy()
        return rows

    @property
    def scores(self) -> NDArray[np.float32]:
        """The cosine of each hit, float32 (hits)."""
        scores: NDArray[np.float32] = self.table.column("score").to_numpy()
        return scores

    def to_arrow(self) -> pa.Table:
        """The table itself."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """The table for pandas, which has to be installed."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def __len__(self) -> int:
        result: int = self.table.num_rows
        return result

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> list[Hit]: ...
    def __getitem__(self, at: int | slice) -> Hit | list[Hit]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(f"there are {len(self)} hits")
        values = self.table.slice(at % len(self), 1).to_pylist()[0]
        return Hit(values.pop("rank"), values.pop("score"), values.pop("row"), values.pop("id"), values)

    def __iter__(self) -> Iterator[Hit]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.id} ({hit.score:.3f})" for hit in self[:5])
        return f"<{len(self)} hits for {self.query}: {shown}{', …' if len(self) > 5 else ''}>"

    def _repr_html_(self) -> str:
        """A grid of pictures where there are any, else a table."""
        pictures = pictures_of_results(self.searched, self.rows.tolist()) if self.searched is not None else Pictures()
        cells = "".join(_card(hit, pictures) for hit in self)
        return (
            f'<style>{notebook_style()}</style><div class="clipmill"><p>{html.escape(self.query)}</p>'
            f'<ol class="cards">{cells}</ol></div>'
        )


def _card(hit: Hit, pictures: Pictures) -> str:
    uri, missing = picture_uri(pictures.found.get(hit.row)), pictures.missing.get(hit.row)
    shown = f'<img src="{uri}" alt="{html.escape(hit.id)}">' if uri else ""
    if missing:
        shown = f'<span class="none">no picture: {html.escape(missing)}</span>'
    columns = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in hit.columns.items()
        if value is not None
    )
    return (
        f'<li class="card"><div class="frame">{shown}</div><div class="what"><p class="line"><span>{hit.rank}</span>'
        f'<span class="score">{hit.score:.4f}</span></p><p class="id">{html.escape(hit.id)}</p><dl>{columns}</dl></div></li>'
    )


@dataclass(frozen=True)
class HitLists(Sequence[Hits]):
    """The results of several queries, in their order. ``rows`` is int64 (q, k) and ``scores`` float32 (q, k): −1 and −∞
    where fewer than k rows were found."""

    lists: Sequence[Hits]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def to_arrow(self) -> pa.Table:
        """One row a hit of any query, with the query's number as ``query``, sorted by query and rank."""
        tables = [
            hits.table.add_column(0, "query", pa.array([number] * len(hits), pa.int64()))
            for number, hits in enumerate(self.lists)
        ]
        return pa.concat_tables(tables)

    def to_pandas(self) -> pd.DataFrame:
        """The same for pandas, which has to be installed."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def __len__(self) -> int:
        return len(self.lists)

    @overload
    def __getitem__(self, at: int) -> Hits: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Hits]: ...
    def __getitem__(self, at: int | slice) -> Hits | Sequence[Hits]:
        return self.lists[at]

    def __repr__(self) -> str:
        return f"<results of {len(self)} queries, {self.rows.shape[1]} rows each>"

    def _repr_html_(self) -> str:
        return "".join(hits._repr_html_() for hits in self.lists)
