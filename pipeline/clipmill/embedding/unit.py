"""What happens to one unit of rows: raw to decoded to embedded. Pure functions of Arrow tables; Ray is not needed.

The three tables of a unit travel, are committed and are retried together, so no image can part from its captions.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from clipmill.core.schemas import IMAGE_SHA256, ORDINAL_SHIFT, REJECTED, Reason, captions_schema, images_schema
from clipmill.datasets.manifests import embedding_column
from clipmill.encoders.device import Meter
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import WithoutPictures
from clipmill.encoders.tokens import TokenIds, Tokenizer, tokenise
from clipmill.source.decode import Rejected, thumbnail
from clipmill.source.decode_many import JpegDecoder, decode_all
from clipmill.source.reading import KEPT_PREFIX

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel
    from clipmill.encoders.protocol import Preparation
    from clipmill.source.corrupt import Corruption

_EXPONENT = np.uint16(0x7C00)

Loader = Callable[[str, str], bytes]
"""(path in the image column, source file) to the image file's bytes; raises Rejected."""


@dataclass(frozen=True)
class EmbeddedUnit:
    """The finished tables of one unit, and what was counted and timed on the way (seconds)."""

    images: pa.Table
    captions: pa.Table
    rejected: pa.Table
    captions_by_file: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, pa.Table]:
        """By the parts of the dataset."""
        return {"images": self.images, "captions": self.captions, "rejected": self.rejected}

    @property
    def reasons(self) -> Counter[str]:
        """Rejects by reason."""
        return Counter(self.rejected.column("reason").to_pylist())


def decode_unit(
    raw: pa.Table,
    preprocessing: Preparation,
    max_image_pixels: int,
    thumbnail_pixels: int | None,
    load: Loader,
    corruption: Corruption | None = None,
    jpegs: JpegDecoder | None = None,
) -> pa.Table:
    """A raw unit (columns as in `clipmill.source.reading.unit_schema`, and ``source``, the file) with prepared pictures.

    Adds ``pixels`` (fixed size binary, uint8 of the preparation's shape; null where there is no picture), ``image_sha256`` of
    the encoded bytes, ``width`` and ``height`` of the original, ``thumbnail``, and ``reason`` and ``detail`` of the rejected;
    drops the encoded bytes. With a ``corruption``, pictures and thumbnails are made worse by it.
    ``jpegs`` decodes what it can; models of open_clip have their pictures resized where it puts them.
    """
    pixels = _Pixels(raw.num_rows, preprocessing.shape)
    resized_there = isinstance(preprocessing, Preprocessing) and corruption is None

    def prepare(at: int, row: int, encoded: bytes, image: torch.Tensor) -> dict[str, object]:
        height, width = image.shape[-2:]
        image = image if resized_there else image.cpu()
        if corruption:
            image = corruption.apply(image, row, min(preprocessing.size))
        pixels.put(at, preprocessing.prepare(image))
        return {
            IMAGE_SHA256: hashlib.sha256(encoded).digest(),
            "width": width,
            "height": height,
            "thumbnail": thumbnail(image.cpu(), thumbnail_pixels) if thumbnail_pixels else None,
        }

    prepared: list[dict[str, object]] = []
    pictures = decode_all(_pictures(raw, load), max_image_pixels, jpegs)
    for at, (row, (encoded, image)) in enumerate(zip(raw.column("row").to_pylist(), pictures, strict=True)):
        if isinstance(image, Rejected):
            prepared.append({"reason": image.reason.value, "detail": image.detail})
        elif isinstance(image, torch.Tensor) and isinstance(encoded, bytes):
            prepared.append(prepare(at, row, encoded, image))
        else:
            prepared.append({})
        del encoded, image
    decoded = raw.drop_columns(["image", "image_path"])
    for name, kind in (
        (IMAGE_SHA256, pa.binary(32)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail", pa.binary()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ):
        decoded = decoded.append_column(name, pa.array([one.get(name) for one in prepared], kind))
    return decoded.append_column("pixels", pixels.column())


class _Pixels:
    """The prepared pictures of a unit, each written once to where the encoder reads it."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self._data = torch.zeros((rows, *shape), dtype=torch.uint8)
        self._there = np.zeros(rows, np.bool_)

    def put(self, at: int, picture: torch.Tensor) -> None:
        """The prepared picture of a row, uint8."""
        self._data[at] = picture
        self._there[at] = True

    def column(self) -> pa.Array:
        """Fixed size binary, null where no picture was put."""
        bits = None if self._there.all() else pa.py_buffer(np.packbits(self._there, bitorder="little"))
        kind = pa.binary(self._data[0].numel() if len(self._data) else 1)
        return pa.Array.from_buffers(kind, len(self._there), [bits, pa.py_buffer(self._data.numpy())])


def tokenise_unit(decoded: pa.Table, tokenizer: Tokenizer) -> pa.Table:
    """A unit with its captions as ``tokens``: for each caption the ids without their padding, int32, null for one that is
    empty."""
    captions = decoded.column("captions").to_pylist()
    given = iter(tokenise(tokenizer, [text for texts in captions for text in texts or () if _has_words(text)]))
    tokens = [[next(given) if _has_words(text) else None for text in texts] if texts else None for texts in captions]
    return decoded.append_column("tokens", pa.array(tokens, pa.list_(pa.list_(pa.int32()))))


def _has_words(caption: str | None) -> bool:
    return caption is not None and bool(caption.strip())


def _pictures(raw: pa.Table, load: Loader) -> Iterator[bytes | Rejected | None]:
    """The bytes of each row's picture, or why there are none; None for a row whose file has no image column."""
    columns = (raw.column(name).to_pylist() for name in ("has_image_column", "image_path", "source"))
    for data, has_image, path, source in zip(raw.column("image"), *columns, strict=True):
        try:
            yield _encoded(data, path, source, load) if has_image else None
        except Rejected as rejected:
            yield rejected


def _encoded(data: pa.Scalar, path: str | None, source: str, load: Loader) -> bytes:
    if data.is_valid:
        encoded: bytes = data.as_py()
        return encoded
    if path is not None:
        return load(path, source)
    raise Rejected(Reason.MISSING_IMAGE, "the image is null")


def encode_unit(model: ClipModel, decoded: pa.Table, kept: Sequence[pa.Field], *, thumbnails: bool) -> EmbeddedUnit:
    """A decoded and tokenised unit as its finished tables, every row and every caption in exactly one of them.

    Both towers are started before either is waited for.
    """
    images_meter, captions_meter = Meter(), Meter()
    dimension, texts = model.identity.dimension, _captions_of(decoded)
    present, pixels = _pictures_of(decoded, model.encoder.images)
    images_to_come = model.start_images(pixels, images_meter)
    captions_to_come = model.start_tokens(_token_ids(texts.tokens), captions_meter)
    image_vectors, has_vector = _placed(images_to_come(), present, dimension)
    rejects = _Rejects(decoded)
    _reject_images(decoded, image_vectors, has_vector, rejects)
    captions = _caption_table(decoded, texts, captions_to_come().astype(np.float16), image_vectors, has_vector, rejects)

    chosen = np.flatnonzero(has_vector)
    schema = images_schema(dimension, kept, thumbnails=thumbnails, hashes=True)
    names = {field.name: KEPT_PREFIX + field.name for field in kept}
    wanted = [names.get(name, name) for name in schema.names if name != "embedding"]
    plain = decoded.select(wanted).take(chosen)
    columns = {name: plain.column(names.get(name, name)) for name in schema.names if name != "embedding"}
    columns["embedding"] = embedding_column(image_vectors[chosen])
    images = pa.table([columns[name] for name in schema.names], schema=schema)
    seconds = {"encode_images": images_meter.seconds, "encode_captions": captions_meter.seconds}
    return EmbeddedUnit(images, captions, rejects.table(), _captions_by_file(decoded), seconds)


def _pictures_of(decoded: pa.Table, preparation: Preparation | None) -> tuple[NDArray[np.bool_], torch.Tensor]:
    """Which rows have a picture, and the prepared pictures, uint8 (n, *shape)."""
    column = _whole(decoded.column("pixels"))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    shape = preparation.shape if preparation else WithoutPictures.shape
    width = column.type.byte_width
    buffer = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    pixels = buffer[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), *shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return present, torch.from_numpy(pixels if present.all() else pixels[present])


def _placed(
    vectors: NDArray[np.float32], present: NDArray[np.bool_], dimension: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Vectors of the rows that have a picture as float16 (n, d) by row, zeros where there is none, and which rows have one
    that is finite."""
    placed = np.zeros((len(present), dimension), np.float16)
    placed[present] = vectors.astype(np.float16)
    finite = _finite(placed)
    placed[~finite] = 0
    return placed, present & finite


def _finite(vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Which rows of float16 (n, d) have no NaN and no infinity, whose exponents are all ones."""
    return np.asarray(((vectors.view(np.uint16) & _EXPONENT) != _EXPONENT).all(axis=1))


class _Rejects:
    """Gathers the rejects of one unit."""

    def __init__(self, decoded: pa.Table) -> None:
        self._by_row = {name: decoded.column(name).to_pylist() for name in ("row", "id", "source")}
        self._records: list[dict[str, object]] = []

    def add(self, index: int, caption_index: int | None, reason: str, detail: str) -> None:
        """The image (``caption_index=None``) or one caption of the unit's row at ``index``."""
        identity = {name: values[index] for name, values in self._by_row.items()}
        kind = "image" if caption_index is None else "caption"
        record = {"kind": kind, "caption_index": caption_index, "reason": reason, "detail": detail}
        self._records.append({**identity, **record})

    def table(self) -> pa.Table:
        """All of them, in row order."""
        return pa.Table.from_pylist(sorted(self._records, key=_reject_order), schema=REJECTED)


def _reject_order(record: dict[str, object]) -> tuple[object, object]:
    index = record["caption_index"]
    return record["row"], -1 if index is None else index


def _reject_images(
    decoded: pa.Table, vectors: NDArray[np.float16], has_vector: NDArray[np.bool_], rejects: _Rejects
) -> None:
    reasons, details = decoded.column("reason").to_pylist(), decoded.column("detail").to_pylist()
    has_image = decoded.column("has_image_column").to_pylist()
    for index in np.flatnonzero(~has_vector).tolist():
        if not has_image[index]:
            continue
        if reasons[index] is None:
            rejects.add(
                index, None, Reason.NON_FINITE_EMBEDDING.value, "the model returned NaN or infinity for this image"
            )
        else:
            rejects.add(index, None, reasons[index], details[index])


@dataclass(frozen=True)
class _Captions:
    """All captions of a unit in their order: the index of each one's row, its number among that row's, its text, and its token
    ids, null where it is empty."""

    owner: NDArray[np.int64]
    position: NDArray[np.int32]
    texts: pa.Array
    tokens: pa.Array


def _caption_table(
    decoded: pa.Table,
    captions: _Captions,
    vectors: NDArray[np.float16],
    image_vectors: NDArray[np.float16],
    has_vector: NDArray[np.bool_],
    rejects: _Rejects,
) -> pa.Table:
    """``vectors`` (n, d) are those of the captions that are not empty."""
    owner, position = captions.owner, captions.position
    has_words = captions.tokens.is_valid().to_numpy(zero_copy_only=False)
    for empty in np.flatnonzero(~has_words).tolist():
        null = not captions.texts[empty].is_valid
        detail = "the caption is null" if null else "the caption has no characters but white space"
        rejects.add(int(owner[empty]), int(position[empty]), Reason.EMPTY_CAPTION.value, detail)
    given = np.flatnonzero(has_words)
    finite = _finite(vectors)
    for failed in given[~finite].tolist():
        detail = "the model returned NaN or infinity for this caption"
        rejects.add(int(owner[failed]), int(position[failed]), Reason.NON_FINITE_EMBEDDING.value, detail)
    good = given[finite]
    owners = owner[good]
    scores = _cosine(vectors[finite], image_vectors[owners])
    plain = decoded.select(["row", "id"]).take(owners)
    return pa.table(
        [
            plain.column("row"),
            plain.column("id"),
            pa.array(position[good]),
            captions.texts.take(pa.array(good)),
            embedding_column(vectors[finite]),
            pa.array(scores, pa.float32(), mask=~has_vector[owners]),
        ],
        schema=captions_schema(vectors.shape[1]),
    )


def _captions_of(decoded: pa.Table) -> _Captions:
    lists = _whole(decoded.column("captions"))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    owner = np.repeat(np.arange(len(lists)), lengths)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if "tokens" in decoded.column_names:
        tokens = _whole(decoded.column("tokens")).flatten()
    else:
        tokens = pa.nulls(len(owner), pa.list_(pa.int32()))
    return _Captions(owner, position.astype(np.int32), lists.flatten(), tokens)


def _token_ids(tokens: pa.Array) -> list[TokenIds]:
    """The token ids of captions that are not empty."""
    known = tokens.drop_null()
    flat, offsets = known.values.to_numpy(), known.offsets.to_pylist()
    return [flat[start:stop] for start, stop in pairwise(offsets)]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, which `combine_chunks` would copy even where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _cosine(left: NDArray[np.float16], right: NDArray[np.float16]) -> NDArray[np.float32]:
    """Cosine of the rows of two (n, d) arrays as they are stored; 0 where one is all zeros."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products: NDArray[np.float32] = np.einsum("nd,nd->n", a, b)
    result: NDArray[np.float32] = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return result


def _captions_by_file(decoded: pa.Table) -> dict[int, int]:
    """Captions read, by the ordinal of the source file."""
    ordinals = decoded.column("row").to_numpy() >> ORDINAL_SHIFT
    lengths = pc.fill_null(pc.list_value_length(decoded.column("captions")), 0).to_numpy()
    return {ordinal: int(lengths[ordinals == ordinal].sum()) for ordinal in np.unique(ordinals).tolist()}
