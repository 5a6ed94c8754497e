"""Image and text vectors with what belongs to them: which text goes with which image, ids, captions and columns."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.core.settings import ImportVectorsSettings
from clipmill.source.importers.metadata import Metadata, describe_rows, read_table, take
from clipmill.source.importers.npy import VectorFiles, open_array
from clipmill.source.names import CAPTION_NAMES
from clipmill.source.types import is_text_list, plain_type


@dataclass(frozen=True)
class VectorSource:
    """Texts are taken in ``order``: that of the rows of their images.

    ``image_of`` and ``caption_index`` go with ``order``. ``described`` is the metadata row of an image, -1 for none;
    None when the metadata has a row per image.
    """

    images: VectorFiles
    texts: VectorFiles | None
    order: NDArray[np.int64]
    image_of: NDArray[np.int64]
    caption_index: NDArray[np.int32]
    metadata: Metadata
    described: NDArray[np.int64] | None

    def rows(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """``row`` of these images."""
        files, rows = self.images.file_and_row(images)
        return (files << ORDINAL_SHIFT) + rows

    def ids(self, images: NDArray[np.int64]) -> list[str]:
        """From the metadata, or file name and row."""
        files, rows = self.images.file_and_row(images)
        names = [file.name for file in self.images.files]
        derived = [f"{names[file]}:{row}" for file, row in zip(files.tolist(), rows.tolist(), strict=True)]
        if self.metadata.ids is None:
            return derived
        given = take(self.metadata.ids, self._described(images)).to_pylist()
        return [other if id_ is None else id_ for id_, other in zip(given, derived, strict=True)]

    def kept(self, images: NDArray[np.int64]) -> pa.Table:
        """The columns that travel, for these images."""
        return take(self.metadata.kept, self._described(images))

    def captions(self, texts: NDArray[np.int64]) -> list[str | None]:
        """Of these texts, None where the metadata does not tell."""
        if self.metadata.captions is None:
            return [None] * len(texts)
        return [text or None for text in take(self.metadata.captions, texts).to_pylist()]

    def _described(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        return images if self.described is None else self.described[images]


def open_vectors(settings: ImportVectorsSettings) -> VectorSource:
    """Opens all that the settings name. Raises UserError when the parts do not fit together."""
    images = VectorFiles.open(settings.images, "--images")
    texts = VectorFiles.open(settings.texts, "--texts") if settings.texts else None
    if texts is not None and texts.dimension != images.dimension:
        raise UserError(
            f"--texts has vectors of {texts.dimension} dimensions and --images of {images.dimension}: they are not of one model"
        )
    named = read_table(settings.metadata, settings.caption_column) if settings.metadata else None
    listed = texts is not None and named is not None and _lists_captions(settings, named[1], len(images))
    described = None
    metadata, a_row_a_text = Metadata(None, None, pa.table({"_": pa.nulls(len(images))}).select([])), False
    if named is not None:
        name, table = named
        a_row_a_text = texts is not None and table.num_rows == len(texts) and not listed
        if not a_row_a_text and table.num_rows != len(images):
            counts = f"{len(images)} images" + (f" and {len(texts)} texts" if texts is not None else "")
            raise UserError(f"--metadata {settings.metadata} has {table.num_rows} rows, but there are {counts}")
        metadata = describe_rows(
            table,
            name,
            caption_column=settings.caption_column,
            id_column=settings.id_column,
            with_caption=a_row_a_text or listed,
        )
    order, image_of = pair_texts(settings, images, texts, metadata.lists)
    first = np.r_[True, image_of[1:] != image_of[:-1]] if len(image_of) else np.empty(0, bool)
    starts = np.flatnonzero(first)
    caption_index = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    if a_row_a_text and settings.text_image:
        described = np.full(len(images), -1, np.int64)
        described[image_of[first]] = order[first]
    if metadata.captions is not None and listed:
        # The captions of all lists stand in the order of the images, as do the texts in `order`.
        metadata = replace(metadata, captions=metadata.captions.flatten().take(pa.array(np.argsort(order))))
    return VectorSource(images, texts, order, image_of, caption_index.astype(np.int32), metadata, described)


def _lists_captions(settings: ImportVectorsSettings, table: pa.Table, rows: int) -> bool:
    """Whether the table has a row an image, with a list of the captions of each."""
    named = settings.caption_column
    return table.num_rows == rows and any(
        is_text_list(plain_type(field.type))
        for field in table.schema
        if (field.name == named if named else field.name.lower() in CAPTION_NAMES)
    )


def pair_texts(
    settings: ImportVectorsSettings,
    images: VectorFiles,
    texts: VectorFiles | None,
    listed: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Texts in the order of their images, and those images. ``listed`` is how many captions the metadata gives each image."""
    if texts is None:
        if settings.text_image:
            raise UserError("--text-image says which image a text belongs to, but there are no --texts")
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if listed is not None and listed.sum() != len(texts):
        raise UserError(
            f"--metadata {settings.metadata} lists {int(listed.sum())} captions, and there are {len(texts)} texts; give a "
            "text vector for each caption, those of the first image first"
        )
    if settings.text_image is None and listed is not None:
        return np.arange(len(texts)), np.repeat(np.arange(len(images)), listed)
    if settings.text_image is None:
        if len(texts) != len(images):
            raise UserError(
                f"there are {len(images)} images and {len(texts)} texts; row i of one belongs to row i of the other only "
                "where they are as many: say with --text-image which image each text belongs to, or give --metadata with a "
                "row an image and lists of captions"
            )
        return np.arange(len(texts)), np.arange(len(texts))
    mapping = open_array(Path(storage.resolve(settings.text_image).path), "--text-image")
    if mapping.ndim != 1 or mapping.dtype.kind not in "iu" or len(mapping) != len(texts):
        raise UserError(
            f"--text-image {settings.text_image} holds {mapping.dtype} of shape {mapping.shape}, but should hold "
            f"{len(texts)} whole numbers: the image row of every text"
        )
    wrong = np.flatnonzero((mapping < 0) | (mapping >= len(images)))
    if len(wrong):
        raise UserError(
            f"--text-image {settings.text_image}: text {wrong[0]} belongs to image {mapping[wrong[0]]}, but images are "
            f"numbered from 0 to {len(images) - 1}"
        )
    counts = np.bincount(mapping, minlength=len(images))
    if listed is not None and (other := np.flatnonzero(counts != listed)).size:
        raise UserError(
            f"--metadata {settings.metadata} lists {listed[other[0]]} captions of image {other[0]}, but --text-image "
            f"{settings.text_image} gives it {counts[other[0]]}"
        )
    order = np.argsort(mapping, kind="stable")
    return order, np.asarray(mapping[order], np.int64)
