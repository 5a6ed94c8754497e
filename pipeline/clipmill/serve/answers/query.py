"""Parts of a question to one vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.serve.answers.answer import Kind
from clipmill.serve.answers.encode import Encoder, Vector
from clipmill.serve.answers.opened import Served
from clipmill.serve.answers.request import QueryPart
from clipmill.serve.limits import Limits

_NOTHING = 1e-6
"""A sum of parts shorter than this points nowhere."""


@dataclass(frozen=True)
class Asked:
    """The query (1, d) of unit length; ``own`` is the position of the row that alone is asked for, which comes first."""

    vector: NDArray[np.float32]
    kind: Kind
    own: int | None = None


def asked_of(parts: Sequence[QueryPart], served: Served, encoder: Encoder, limits: Limits) -> Asked:
    """The sum of the weighted unit vectors of all parts, of unit length again.

    Raises UserError for a part that cannot be a query, and for parts that cancel each other out.
    """
    if len(parts) > limits.parts:
        raise UserError(f"a query of {len(parts)} parts was asked; give at most {limits.parts}")
    if len(parts) == 1 and parts[0].weight > 0:
        (part,) = parts
        (way,) = part.ways
        kind: Kind = way  # type: ignore[assignment]
        if part.id is not None or part.row is not None:
            own = _position(part, served)
            return Asked(served.index.vectors_at(np.array([own])), kind, own)
        return Asked(_vector(part, served, encoder, limits)[None], kind)
    total = sum(
        (part.weight * _vector(part, served, encoder, limits) for part in parts),
        np.zeros(served.index.dimension, np.float32),
    )
    length = float(np.linalg.norm(total))
    if length < _NOTHING:
        raise UserError("the parts of the query cancel each other out; change their weights")
    return Asked((total / length).astype(np.float32)[None], "several")


def _vector(part: QueryPart, served: Served, encoder: Encoder, limits: Limits) -> Vector:
    """The vector (d,) of one part, of unit length."""
    if part.text is not None:
        text = part.text
        if len(text) > limits.text_letters:
            raise UserError(f"a text of {len(text):,} letters was asked; give at most {limits.text_letters:,}")
        return encoder.text(text.encode("utf-8", "replace").decode())
    if part.image is not None:
        return encoder.picture(bytes(part.image))
    if part.vector is not None:
        return _unit(np.asarray(part.vector, np.float64), served.index.dimension)
    stored: Vector = served.index.vectors_at(np.array([_position(part, served)]))[0]
    return stored


def _unit(vector: NDArray[np.float64], dimension: int) -> Vector:
    if vector.shape != (dimension,):
        raise UserError(
            f"a vector of {len(vector)} numbers was given to an index of {dimension} dimensions; make it with the model that "
            "made the index"
        )
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise UserError("a query vector is of zeros, or too long to be a vector of the model")
    unit: Vector = (vector / length).astype(np.float32)
    return unit


def _position(part: QueryPart, served: Served) -> int:
    """The first position of an id or a row that may be shown. Raises NoSuchRow where there is none."""
    if part.row is not None:
        position = served.opened.position_of_row(part.row)
        if position is None or not served.shows(position):
            raise NoSuchRow(f"row {part.row}: no row of the index has this number")
        return position
    positions = [one for one in served.opened.positions_of_id(str(part.id)).tolist() if served.shows(one)]
    if not positions:
        raise NoSuchRow(f"id {part.id!r}: no row of the index has this id")
    return int(positions[0])


class NoSuchRow(UserError):
    """An id or a row that is not in the index, or was taken down."""
