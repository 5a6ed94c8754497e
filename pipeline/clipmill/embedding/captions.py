"""The captions of a unit: which there are, and their table with the cosine of each with what it describes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.schemas import ORDINAL_SHIFT, Reason, captions_schema
from clipmill.datasets.manifests import embedding_column
from clipmill.embedding.arrays import finite, whole
from clipmill.embedding.rejects import Rejects
from clipmill.encoders.tokens import TokenIds


@dataclass(frozen=True)
class Captions:
    """All captions of a unit in their order: the index of each one's row, its number among that row's, its text, and its token
    ids, null where it is empty."""

    owner: NDArray[np.int64]
    position: NDArray[np.int32]
    texts: pa.Array
    tokens: pa.Array


def caption_table(
    decoded: pa.Table,
    captions: Captions,
    vectors: NDArray[np.float16],
    described: NDArray[np.float16],
    has_vector: NDArray[np.bool_],
    rejects: Rejects,
) -> pa.Table:
    """``vectors`` (n, d) are those of the captions that are not empty, ``described`` (rows, d) those of what they describe."""
    owner, position = captions.owner, captions.position
    has_words = captions.tokens.is_valid().to_numpy(zero_copy_only=False)
    for empty in np.flatnonzero(~has_words).tolist():
        null = not captions.texts[empty].is_valid
        detail = "the caption is null" if null else "the caption has no characters but white space"
        rejects.add(int(owner[empty]), int(position[empty]), Reason.EMPTY_CAPTION.value, detail)
    given = np.flatnonzero(has_words)
    sound = finite(vectors)
    for failed in given[~sound].tolist():
        detail = "the model returned NaN or infinity for this caption"
        rejects.add(int(owner[failed]), int(position[failed]), Reason.NON_FINITE_EMBEDDING.value, detail)
    good = given[sound]
    owners = owner[good]
    scores = _cosine(vectors[sound], described[owners])
    plain = decoded.select(["row", "id"]).take(owners)
    return pa.table(
        [
            plain.column("row"),
            plain.column("id"),
            pa.array(position[good]),
            captions.texts.take(pa.array(good)),
            embedding_column(vectors[sound]),
            pa.array(scores, pa.float32(), mask=~has_vector[owners]),
        ],
        schema=captions_schema(vectors.shape[1]),
    )


def captions_of(decoded: pa.Table) -> Captions:
    """All captions of a decoded unit; without tokens where it was not tokenised."""
    lists = whole(decoded.column("captions"))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    owner = np.repeat(np.arange(len(lists)), lengths)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if "tokens" in decoded.column_names:
        tokens = whole(decoded.column("tokens")).flatten()
    else:
        tokens = pa.nulls(len(owner), pa.list_(pa.int32()))
    return Captions(owner, position.astype(np.int32), lists.flatten(), tokens)


def token_ids(tokens: pa.Array) -> list[TokenIds]:
    """The token ids of captions that are not empty."""
    known = tokens.drop_null()
    flat, offsets = known.values.to_numpy(), known.offsets.to_pylist()
    return [flat[start:stop] for start, stop in pairwise(offsets)]


def _cosine(left: NDArray[np.float16], right: NDArray[np.float16]) -> NDArray[np.float32]:
    """Cosine of the rows of two (n, d) arrays as they are stored; 0 where one is all zeros."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products: NDArray[np.float32] = np.einsum("nd,nd->n", a, b)
    result: NDArray[np.float32] = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return result


def captions_by_file(decoded: pa.Table) -> dict[int, int]:
    """Captions read, by the ordinal of the source file."""
    ordinals = decoded.column("row").to_numpy() >> ORDINAL_SHIFT
    lengths = pc.fill_null(pc.list_value_length(decoded.column("captions")), 0).to_numpy()
    return {ordinal: int(lengths[ordinals == ordinal].sum()) for ordinal in np.unique(ordinals).tolist()}
