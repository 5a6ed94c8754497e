"""Which columns of the input are image, sound, video, caption and id, and which others travel to the output.

Found by the names people use, or named by an option. Where two would do, nobody but the user can tell: an error names
both. Files may differ: the union of their columns is taken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.types as pt

from clipmill.core.errors import UserError
from clipmill.core.schemas import AUDIO_SHA256, IMAGE_SHA256, VIDEO_SHA256
from clipmill.source.input_file import InputFile
from clipmill.source.media import CLIPS, MediumName
from clipmill.source.names import AUDIO_NAMES, CAPTION_NAMES, ID_NAMES, IMAGE_NAMES, PATH_NAMES, VIDEO_NAMES
from clipmill.source.types import is_bytes, is_caption, is_id, is_picture, is_scalar, is_text_list, plain_type

ImageKind = Literal["binary", "struct", "path"]
"""How a column holds pictures, sounds or videos."""

OUTPUT_NAMES = frozenset({"row", "id", "width", "height", "embedding", "thumbnail", IMAGE_SHA256})
CLIP_OUTPUT_NAMES = frozenset(
    {"duration", "sample_rate", "fps", "frames", "frame", "timestamp", AUDIO_SHA256, VIDEO_SHA256}
)
"""Of inputs with sounds or videos these are taken as well."""
_PANDAS_INDEX = "__index_level_"
_WANTED = {
    "image": "images are binary, struct<bytes, path>, or a string with a path",
    "audio": "sounds are binary, struct<bytes, path>, or a string with a path",
    "video": "videos are binary, struct<bytes, path>, or a string with a path",
    "caption": "captions are string or list<string>",
    "id": "ids are whole numbers or strings",
}


@dataclass(frozen=True)
class Columns:
    """The part each source column plays. ``kept`` pairs a source name with its field in the output."""

    image_column: str | None
    image_kind: ImageKind | None
    caption_column: str | None
    caption_is_list: bool
    id_column: str | None
    kept: tuple[tuple[str, pa.Field], ...]
    audio_column: str | None = None
    audio_kind: ImageKind | None = None
    video_column: str | None = None
    video_kind: ImageKind | None = None

    def column_of(self, medium: MediumName) -> str | None:
        """The column of pictures, sounds or videos."""
        found: str | None = getattr(self, f"{medium}_column")
        return found

    def kind_of(self, medium: MediumName) -> ImageKind | None:
        """How it holds them."""
        found: ImageKind | None = getattr(self, f"{medium}_kind")
        return found

    @property
    def clips(self) -> tuple[MediumName, ...]:
        """Which of sounds and videos there are."""
        return tuple(medium for medium in CLIPS if self.column_of(medium) is not None)


@dataclass(frozen=True)
class _Variant:
    """One type that a column has, and the first file that has it so."""

    type: pa.DataType
    file: str


_Union = dict[str, list[_Variant]]
_Test = Callable[[pa.DataType], bool]


def choose_columns(
    inputs: Sequence[InputFile],
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    keep_columns: Iterable[str] | None = None,
    audio_column: str | None = None,
    video_column: str | None = None,
) -> Columns:
    """The columns to read from these files; names given take the place of conventions, and of all scalar columns.

    Raises UserError when neither an image nor a caption column is found, when several could be one, when a name given
    is not there or has an unsuitable type, and when files give one column types that cannot be unified.
    """
    union = _union(inputs)
    audio = _choose_clip(union, audio_column, "audio", AUDIO_NAMES, ())
    video = _choose_clip(union, video_column, "video", VIDEO_NAMES, (audio,))
    image = _choose_image(union, image_column, (audio, video))
    caption = _choose_caption(union, caption_column, (image, audio, video))
    if {image, caption, audio, video} == {None}:
        raise UserError(
            f"no column of images, sounds, videos or captions was found among the columns {_listed(union)} of "
            f"{inputs[0].path}; name them with --image-column, --audio-column, --video-column and --caption-column"
        )
    id_ = _choose_id(union, id_column, {image, caption, audio, video})
    media = [
        (name, _image_kind(union[name], role))
        for role, name in (("image", image), ("audio", audio), ("video", video))
        if name
    ]
    kinds = dict(media)
    used = {name for name in (caption, id_) if name} | {name for name, kind in media if kind != "path"}
    return Columns(
        image_column=image,
        image_kind=kinds.get(image) if image else None,
        caption_column=caption,
        caption_is_list=caption is not None and any(is_text_list(variant.type) for variant in union[caption]),
        id_column=id_,
        kept=_kept(union, used, keep_columns, CLIP_OUTPUT_NAMES if audio or video else ()),
        audio_column=audio,
        audio_kind=kinds.get(audio) if audio else None,
        video_column=video,
        video_kind=kinds.get(video) if video else None,
    )


def choose_metadata_columns(
    schema: pa.Schema, path: str, *, caption_column: str | None, id_column: str | None, with_caption: bool
) -> Columns:
    """The columns of a table that describes vectors, which has no image column. Raises UserError as `choose_columns`.

    Without ``with_caption`` captions are columns like any other.
    """
    union = _union([InputFile(0, path, 0, "", 0, (), (), schema)])
    caption = _choose_caption(union, caption_column, ()) if with_caption else None
    id_ = _choose_id(union, id_column, {caption})
    kept = _kept(union, {name for name in (caption, id_) if name}, None)
    is_list = caption is not None and is_text_list(union[caption][0].type)
    return Columns(None, None, caption, is_list, id_, kept)


def _union(inputs: Sequence[InputFile]) -> _Union:
    """Every column of every file with the different types it has; dictionaries count as their values."""
    union: _Union = {}
    seen: set[int] = set()
    for file in inputs:
        if id(file.schema) in seen:
            continue
        seen.add(id(file.schema))
        names = file.schema.names
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"{file.path}: there are several columns called {_listed(repeated)}; rename all but one")
        for column in file.schema:
            plain = plain_type(column.type)
            variants = union.setdefault(column.name, [])
            if all(variant.type != plain for variant in variants):
                variants.append(_Variant(plain, file.path))
    return union


def _choose_image(union: _Union, named: str | None, taken: Sequence[str | None]) -> str | None:
    """Bytes go before paths: a table with both a picture and the place it came from means the picture. A table of sounds or
    videos has pictures where they are called so: what else is a path may lead anywhere."""
    left = {name: variants for name, variants in union.items() if name not in taken}
    candidates = _with_names(left, IMAGE_NAMES, is_bytes) or [name for name in left if _some(left[name], is_picture)]
    for names in PATH_NAMES if set(taken) == {None} else PATH_NAMES[:1]:
        candidates = candidates or _with_names(left, names, pt.is_string)
    return _choose_one(union, named, "image", candidates, _holds_files)


def _choose_clip(
    union: _Union, named: str | None, role: str, names: frozenset[str], taken: Sequence[str | None]
) -> str | None:
    """A column of sounds or videos; bytes go before paths."""
    left = {name: variants for name, variants in union.items() if name not in taken}
    candidates = _with_names(left, names, is_bytes) or _with_names(left, names, pt.is_string)
    return _choose_one(union, named, role, candidates, _holds_files)


def _holds_files(kind: pa.DataType) -> bool:
    return is_bytes(kind) or bool(pt.is_string(kind))


def _choose_caption(union: _Union, named: str | None, taken: Sequence[str | None]) -> str | None:
    candidates = [name for name in _with_names(union, CAPTION_NAMES, is_caption) if name not in taken]
    return _choose_one(union, named, "caption", candidates, is_caption)


def _choose_id(union: _Union, named: str | None, taken: set[str | None]) -> str | None:
    for name in ID_NAMES:
        candidates = [found for found in _with_names(union, frozenset({name}), is_id) if found not in taken]
        if named is None and candidates:
            return _choose_one(union, candidates[0], "id", (), is_id)
    return _choose_one(union, named, "id", (), is_id)


def _with_names(union: _Union, names: frozenset[str], fits: _Test) -> list[str]:
    """The columns with one of these names, in any case, that have a fitting type in some file."""
    return [name for name in union if name.lower() in names and _some(union[name], fits)]


def _choose_one(union: _Union, named: str | None, role: str, candidates: Sequence[str], fits: _Test) -> str | None:
    """The column named, else the only candidate; its type must fit in every file."""
    option = f"--{role}-column"
    if named is not None:
        _require(union, named, option)
    elif len(candidates) > 1:
        raise UserError(f"several columns could be the {role}: {_listed(candidates)}; say which one with {option}")
    elif not candidates:
        return None
    chosen = candidates[0] if named is None else named
    misfit = next((variant for variant in union[chosen] if not (fits(variant.type) or pt.is_null(variant.type))), None)
    if misfit:
        others = [variant for variant in union[chosen] if variant is not misfit]
        elsewhere = f" (in {others[0].file} it is {others[0].type})" if others else ""
        raise UserError(
            f"column {chosen!r} cannot be the {role}: in {misfit.file} it is {misfit.type}{elsewhere}, but {_WANTED[role]}"
        )
    return chosen


def _kept(
    union: _Union, used: set[str], keep_columns: Iterable[str] | None, reserved: Iterable[str] = ()
) -> tuple[tuple[str, pa.Field], ...]:
    if keep_columns is None:
        names = [
            name
            for name, variants in union.items()
            if name not in used and not name.startswith(_PANDAS_INDEX) and _some(variants, is_scalar)
        ]
    else:
        names = list(dict.fromkeys(keep_columns))
        for name in names:
            _require(union, name, "--keep-columns")
            if not _some(union[name], is_scalar):
                raise UserError(
                    f"--keep-columns {name}: {union[name][0].type} is not a scalar type, and only numbers, strings, "
                    "booleans, dates and times travel to the output"
                )
    taken = {*OUTPUT_NAMES, *reserved}
    kept = []
    for name in names:
        output = name
        while output.lower() in taken:
            output = f"source_{output}"
        taken.add(output.lower())
        kept.append((name, pa.field(output, _unified(name, union[name]))))
    return tuple(kept)


def _unified(name: str, variants: Sequence[_Variant]) -> pa.DataType:
    """The type that holds the values of all files. Whether it holds each value is seen when they are read; of a decimal
    number nobody could see what a binary fraction lost of it."""
    try:
        schemas = [pa.schema([pa.field(name, variant.type)]) for variant in variants]
        unified = plain_type(pa.unify_schemas(schemas, promote_options="permissive").field(0).type)
        unseen = pt.is_floating(unified) and any(pt.is_decimal(variant.type) for variant in variants)
        if unseen or not is_scalar(unified):
            raise pa.ArrowTypeError
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        raise UserError(
            f"column {name!r} cannot be kept: {_clash(variants)}; make the types agree, or leave it out with --keep-columns"
        ) from None
    return pa.string() if pt.is_null(unified) else unified


def _image_kind(variants: Sequence[_Variant], role: str) -> ImageKind:
    kinds = {_kind_of(variant.type) for variant in variants} - {None}
    if len(kinds) != 1:
        raise UserError(f"the {role} column cannot be read: {_clash(variants)}; make the types agree")
    return kinds.pop() or "binary"


def _kind_of(kind: pa.DataType) -> ImageKind | None:
    """None for a column of nulls, which goes with everything."""
    if pt.is_null(kind):
        return None
    return "struct" if pt.is_struct(kind) else "path" if pt.is_string(kind) else "binary"


def _some(variants: Sequence[_Variant], fits: _Test) -> bool:
    return any(fits(variant.type) for variant in variants)


def _clash(variants: Sequence[_Variant]) -> str:
    """Two types that disagree, and where they are."""
    first, second = variants[:2]
    return f"it is {first.type} in {first.file} and {second.type} in {second.file}"


def _require(union: Mapping[str, object], name: str, option: str) -> None:
    if name not in union:
        raise UserError(f"{option} {name}: there is no such column; there are {_listed(union)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def with_every_column(inputs: Sequence[InputFile], columns: Columns, taken: Iterable[str]) -> Columns:
    """The same columns, and all others kept, nested ones and bytes too, but for the captions and for pictures in the files.

    What is called like one of ``taken`` gets the prefix ``source_``. Raises UserError where files give a column types that
    cannot be unified."""
    union = _union(inputs)
    played = {columns.caption_column, columns.image_column if columns.image_kind != "path" else None}
    used = {name.lower() for name in taken}
    kept = []
    for name, variants in union.items():
        if name in played or name.startswith(_PANDAS_INDEX) or name == columns.id_column == "id":
            continue
        output = name
        while output.lower() in used:
            output = f"source_{output}"
        used.add(output.lower())
        alone = len(variants) == 1 and not pt.is_null(variants[0].type)
        kept.append((name, pa.field(output, variants[0].type if alone else _unified(name, variants))))
    return replace(columns, kept=tuple(kept))
