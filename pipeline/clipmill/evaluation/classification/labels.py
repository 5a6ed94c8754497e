"""The label column of a dataset: which it is, its classes, and each image's class number."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import UserError
from clipmill.datasets.manifests import Embeddings, vectors_of
from clipmill.evaluation.classification.class_names import ClassNames
from clipmill.evaluation.classification.zero_shot import UNLABELLED

DEFAULT_COLUMN = "label"
_SCORES = 1 << 23


@dataclass(frozen=True)
class Labels:
    """``numbers`` (images,) int64 index ``values``, the column's own, and ``names``, which prompts are made of; −1 where
    the label is null or empty. Where nothing else names the classes, both are the sorted labels that occur."""

    column: str
    values: tuple[str, ...]
    names: tuple[str, ...]
    numbers: NDArray[np.int64]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names as shown: with the label where several have the same."""
        counts = Counter(self.names)
        pairs = zip(self.values, self.names, strict=True)
        return tuple(f"{name} ({value})" if counts[name] > 1 else name for value, name in pairs)


def find_column(embeddings: Embeddings, wanted: str | None) -> str | None:
    """The column to take labels from, or None where none was asked for and there is no `label`.

    Raises UserError, naming the columns there are, when the wanted one is absent.
    """
    kept = embeddings.manifest.kept_columns
    if wanted is None:
        return DEFAULT_COLUMN if DEFAULT_COLUMN in kept else None
    if wanted not in kept:
        there = f"it has {', '.join(kept)}" if kept else "it kept no column of its source"
        raise UserError(
            f"--label-column {wanted}: {embeddings.location} has no such column; {there}. Columns are kept by "
            "`clipmill embed --keep-columns`"
        )
    return wanted


def read_labels(embeddings: Embeddings, column: str, class_names: ClassNames | None = None) -> Labels:
    """Class numbers of all images. Labels are read as text, NaN as null.

    Raises UserError for a column that has no single value, and for labels that ``class_names`` lacks.
    """
    texts: list[pa.Array] = []
    for batch in embeddings.batches("images", [column]):
        values = batch.column(0)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        try:
            texts.append(values.cast(pa.string()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(
                f"--label-column {column}: it holds {values.type}, which is not one label per image; choose a column "
                "of text, numbers or booleans"
            ) from None
    labels = pa.chunked_array(texts, pa.string())
    labels = pc.if_else(pc.equal(pc.utf8_trim_whitespace(labels), ""), None, labels)
    classes = tuple(sorted(pc.unique(labels.drop_null()).to_pylist()))
    known, names = class_names.of(column, classes) if class_names and classes else (classes, classes)
    numbers = pc.fill_null(pc.index_in(labels, pa.array(known, pa.string())), UNLABELLED)
    return Labels(column, known, names, numbers.to_numpy().astype(np.int64))


def labelled_batches(embeddings: Embeddings, labels: Labels) -> Iterator[tuple[NDArray[np.float16], NDArray[np.int64]]]:
    """Image vectors with their class numbers, batch by batch; smaller ones where there are very many classes."""
    start, rows = 0, min(8192, max(64, _SCORES // max(1, len(labels.values))))
    for batch in embeddings.batches("images", ["embedding"], rows):
        yield vectors_of(batch.column("embedding")), labels.numbers[start : start + batch.num_rows]
        start += batch.num_rows
