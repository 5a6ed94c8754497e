"""Results that are kept between the starts of a long job: dataclasses and arrays in one file that reads back exactly.

A file is an ``.npz``: its entry ``document`` is JSON, in which arrays are named by the number of their entry. No pickle.
"""

import io
import json
import time
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from clipmill import storage
from clipmill.storage import Location

Made = TypeVar("Made")
_DOCUMENT = "document"


class Checkpoint(Protocol):
    """Gives the result called ``name``: as it was kept, else computed now and kept. ``kind`` is its type."""

    def __call__(self, name: str, kind: type[Made], compute: Callable[[], Made]) -> Made: ...


def no_checkpoints(name: str, kind: type[Made], compute: Callable[[], Made]) -> Made:
    """Computes every result anew."""
    return compute()


@dataclass
class CheckpointFolder:
    """Keeps each result in a file of its own in ``folder``. ``seconds_saved`` is what those took to compute that were
    not computed again."""

    folder: Location
    seconds_saved: float = 0.0

    def __call__(self, name: str, kind: type[Made], compute: Callable[[], Made]) -> Made:
        place = self.folder / f"{name}.npz"
        found = load(place, Computed[kind])  # type: ignore[valid-type]
        if found is not None:
            self.seconds_saved += found.seconds
            return cast(Made, found.value)
        began = time.perf_counter()
        value = compute()
        save(place, Computed(value, time.perf_counter() - began))
        return value


@dataclass(frozen=True)
class Computed(Generic[Made]):
    """A result, and the seconds it took."""

    value: Made
    seconds: float


def save(place: Location, value: object) -> None:
    """Writes dataclasses, pydantic models, lists, tuples, dictionaries, plain values and arrays, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    document = json.dumps(_plain(value, arrays)).encode()
    entries: dict[str, Any] = {_DOCUMENT: np.frombuffer(document, np.uint8), **arrays}
    stream = io.BytesIO()
    np.savez(stream, **entries)
    storage.write_bytes(place, stream.getvalue())


def load(place: Location, kind: type[Made]) -> Made | None:
    """What `save` wrote of a value of this type; None where there is no such file, or none of this type."""
    try:
        with np.load(io.BytesIO(storage.read_bytes(place)), allow_pickle=False) as arrays:
            return cast(Made, _restored(json.loads(arrays[_DOCUMENT].tobytes()), kind, arrays))
    except (FileNotFoundError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _plain(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        name = str(len(arrays))
        arrays[name] = value
        return name
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
    if isinstance(value, dict):
        return [[_plain(key, arrays), _plain(item, arrays)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item, arrays) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def _restored(document: Any, kind: Any, arrays: Any) -> Any:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        return None if document is None else _restored(document, _but_none(arguments), arrays)
    if origin is np.ndarray:
        return arrays[document]
    if origin is dict:
        return {_restored(key, arguments[0], arrays): _restored(item, arguments[1], arrays) for key, item in document}
    if origin is list:
        return [_restored(item, arguments[0], arrays) for item in document]
    if origin is tuple:
        kinds = [arguments[0]] * len(document) if arguments[1:] == (...,) else arguments
        return tuple(_restored(item, of, arrays) for item, of in zip(document, kinds, strict=True))
    if origin is Computed:
        return Computed(_restored(document["value"], arguments[0], arrays), document["seconds"])
    if is_dataclass(origin):
        hints = get_type_hints(origin)
        values = {field.name: _restored(document[field.name], hints[field.name], arrays) for field in fields(origin)}
        return cast(Any, origin)(**values)
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return origin.model_validate(document)
    return document


def _but_none(kinds: tuple[Any, ...]) -> Any:
    return next(kind for kind in kinds if kind is not type(None))
