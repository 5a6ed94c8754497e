"""What happens to one unit of rows: raw to decoded to embedded. Pure functions of Arrow tables; Ray is not needed.

The tables of a unit travel, are committed and are retried together, so no image can part from its captions.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from clipmill.core.schemas import (
    FRAME,
    IMAGE_SHA256,
    TIMESTAMP,
    VIDEO_SHA256,
    Reason,
    audio_schema,
    images_schema,
    videos_schema,
)
from clipmill.datasets.manifests import embedding_column
from clipmill.embedding.arrays import placed, whole
from clipmill.embedding.captions import caption_table, captions_by_file, captions_of, token_ids
from clipmill.embedding.clips import Encoded, start_clips
from clipmill.embedding.layout import PARTS
from clipmill.embedding.rejects import Rejects
from clipmill.encoders.device import Meter
from clipmill.encoders.preprocess import Preprocessing
from clipmill.encoders.protocol import WithoutPictures
from clipmill.encoders.tokens import Tokenizer, are_cut, tokenise
from clipmill.source.decode import Rejected, thumbnail
from clipmill.source.decode_many import JpegDecoder, decode_all
from clipmill.source.media import CLIPS, MEDIA, MediumName
from clipmill.source.reading import KEPT_PREFIX

if TYPE_CHECKING:
    from clipmill.encoders.model import ClipModel
    from clipmill.encoders.protocol import Preparation
    from clipmill.source.corrupt import Corruption

TRUNCATED = "truncated"
"""In a tokenised unit, of each row the captions that are longer than the model reads."""
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
    clips: dict[str, pa.Table] = field(default_factory=dict)
    """Of sounds and videos, by part, where the input has them."""
    truncated: int = 0
    """Captions that are longer than the model reads."""

    @property
    def tables(self) -> dict[str, pa.Table]:
        """By the parts of the dataset, in their order."""
        others = {"images": self.images, **self.clips, "captions": self.captions, "rejected": self.rejected}
        return {part: others[part] for part in PARTS if part in others}

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
    seen = bool(pc.any(raw.column("has_image_column")).as_py())
    pixels = _Pixels(raw.num_rows, preprocessing.shape if seen else WithoutPictures.shape)
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
    empty; and ``truncated``, the number of captions of a row that are longer than the model reads."""
    captions = decoded.column("captions").to_pylist()
    texts = [text for texts in captions for text in texts or () if _has_words(text)]
    found = tokenise(tokenizer, texts)
    given, cut = iter(found), iter(are_cut(tokenizer, texts, found).tolist())
    tokens = [[next(given) if _has_words(text) else None for text in texts] if texts else None for texts in captions]
    truncated = [sum(next(cut) for text in texts or () if _has_words(text)) for texts in captions]
    decoded = decoded.append_column("tokens", pa.array(tokens, pa.list_(pa.list_(pa.int32()))))
    return decoded.append_column(TRUNCATED, pa.array(truncated, pa.int32()))


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

    All towers are started before any is waited for.
    """
    images_meter, captions_meter, clips_meter = Meter(), Meter(), Meter()
    dimension, texts = model.identity.dimension, captions_of(decoded)
    present, pixels = _pictures_of(decoded, model.encoder.images)
    images_to_come = model.start_images(pixels, images_meter)
    captions_to_come = model.start_tokens(token_ids(texts.tokens), captions_meter)
    clips_to_come = {medium: start_clips(model, decoded, medium, clips_meter) for medium in _clips_in(decoded)}
    image_vectors, has_vector = placed(images_to_come(), present, dimension)
    rejects = Rejects(decoded)
    _reject(decoded, has_vector, rejects)
    clips, described, has_described = {}, image_vectors, has_vector
    for medium, to_come in clips_to_come.items():
        encoded = to_come()
        vectors, has_clip = placed(encoded.vectors, encoded.present, dimension)
        _reject(decoded, has_clip, rejects, medium)
        if f"{medium}_{FRAME}" in decoded.column_names:
            clips[MEDIA[medium].part] = _frame_table(decoded, encoded, has_clip, kept)
        else:
            clips[MEDIA[medium].part] = _clip_table(decoded, medium, vectors, has_clip, kept)
        described = np.where(has_described[:, None], described, vectors)
        has_described = has_described | has_clip
    vectors = captions_to_come().astype(np.float16)
    captions = caption_table(decoded, texts, vectors, described, has_described, rejects)
    schema = images_schema(dimension, kept, thumbnails=thumbnails, hashes=True)
    images = _with_vectors(decoded, schema, kept, image_vectors, has_vector)
    seconds = {
        "encode_images": images_meter.seconds,
        "encode_captions": captions_meter.seconds,
        **({"encode_clips": clips_meter.seconds} if clips else {}),
    }
    truncated = pc.sum(decoded.column(TRUNCATED)).as_py() if TRUNCATED in decoded.column_names else 0
    return EmbeddedUnit(images, captions, rejects.table(), captions_by_file(decoded), seconds, clips, truncated or 0)


def _clips_in(decoded: pa.Table) -> list[MediumName]:
    """Which of videos and sounds a unit has; captions are compared with the first of a row, after its picture."""
    return [medium for medium in reversed(CLIPS) if f"{medium}_pieces" in decoded.column_names]


def _clip_table(
    decoded: pa.Table,
    medium: MediumName,
    vectors: NDArray[np.float16],
    has_vector: NDArray[np.bool_],
    kept: Sequence[pa.Field],
) -> pa.Table:
    schema = (audio_schema if medium == "audio" else videos_schema)(vectors.shape[1], kept)
    facts = {name: f"{medium}_{name}" for name in ("duration", "sample_rate", "fps", "frames")}
    return _with_vectors(decoded, schema, kept, vectors, has_vector, facts)


def _frame_table(
    decoded: pa.Table, encoded: Encoded, has_vector: NDArray[np.bool_], kept: Sequence[pa.Field]
) -> pa.Table:
    """A row for each picture that was kept of a video that has a vector; the others are rejects whole."""
    counts = np.zeros(decoded.num_rows, np.int64)
    counts[encoded.present] = encoded.counts
    rows = np.repeat(np.arange(decoded.num_rows), counts)
    alive = has_vector[rows]
    schema = videos_schema(encoded.pieces.shape[1], kept, frames=True)
    facts = {name: f"video_{name}" for name in ("duration", "fps", "frames")}
    names = [*facts.values(), "row", "id", VIDEO_SHA256, *(KEPT_PREFIX + field.name for field in kept)]
    of_frames = decoded.select(names).take(pa.array(rows[alive]))
    for name in (FRAME, TIMESTAMP):
        column = pc.list_flatten(whole(decoded.column(f"video_{name}"))).filter(pa.array(alive))
        of_frames = of_frames.append_column(name, column)
    vectors = encoded.pieces[alive].astype(np.float16)
    return _with_vectors(of_frames, schema, kept, vectors, np.ones(len(vectors), np.bool_), facts)


def _with_vectors(
    decoded: pa.Table,
    schema: pa.Schema,
    kept: Sequence[pa.Field],
    vectors: NDArray[np.float16],
    has_vector: NDArray[np.bool_],
    facts: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """The rows of a unit that have a vector, with the columns of a schema; ``facts`` are other names that these have in the
    unit."""
    chosen = np.flatnonzero(has_vector)
    names = {**facts, **{field.name: KEPT_PREFIX + field.name for field in kept}}
    others = [name for name in schema.names if name != "embedding"]
    plain = decoded.select([names.get(name, name) for name in others]).take(chosen)
    columns = dict(zip(others, plain.columns, strict=True))
    columns["embedding"] = embedding_column(vectors[chosen])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _pictures_of(decoded: pa.Table, preparation: Preparation | None) -> tuple[NDArray[np.bool_], torch.Tensor]:
    """Which rows have a picture, and the prepared pictures, uint8 (n, *shape)."""
    column = whole(decoded.column("pixels"))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    shape = preparation.shape if preparation else WithoutPictures.shape
    width = column.type.byte_width
    if not present.any():
        return present, torch.empty((0, *shape), dtype=torch.uint8)
    buffer = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    pixels = buffer[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), *shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return present, torch.from_numpy(pixels if present.all() else pixels[present])


def _reject(decoded: pa.Table, has_vector: NDArray[np.bool_], rejects: Rejects, medium: MediumName = "image") -> None:
    """The rows that have such a column and no vector."""
    prefix = "" if medium == "image" else f"{medium}_"
    reasons, details = decoded.column(f"{prefix}reason").to_pylist(), decoded.column(f"{prefix}detail").to_pylist()
    there = decoded.column(f"has_{medium}_column").to_pylist()
    for index in np.flatnonzero(~has_vector).tolist():
        if not there[index]:
            continue
        if reasons[index] is None:
            detail = f"the model returned NaN or infinity for this {MEDIA[medium].noun}"
            rejects.add(index, None, Reason.NON_FINITE_EMBEDDING.value, detail, medium)
        else:
            rejects.add(index, None, reasons[index], details[index], medium)
