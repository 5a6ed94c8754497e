"""What is sent with a request, read and checked: JSON, a form with a picture, or vectors as .npy."""

import base64
import io
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from clipmill.core.settings.base import explain
from clipmill.serve.answers.request import SearchRequest
from clipmill.serve.problems import Problem

Model = TypeVar("Model", bound=BaseModel)
_MOST_TOLD = 3
_MOST_PARTS = 8


async def search_request(request: Request) -> SearchRequest:
    """From JSON, or from a form whose field ``image`` is a file and whose ``request`` is the rest as JSON.

    Raises Problem for what is neither.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return validated(SearchRequest, await _form(request))
    if kind != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{kind[:100]!r} was sent; send application/json or multipart/form-data"
        )
    return validated(SearchRequest, read_json(await request.body()))


async def _form(request: Request) -> dict[str, Any]:
    async with request.form(max_files=1, max_fields=_MOST_PARTS) as form:
        told = form.get("request", "{}")
        values = read_json(told.encode() if isinstance(told, str) else await told.read())
        if not isinstance(values, dict):
            raise Problem(HTTPStatus.BAD_REQUEST, "the field `request` of the form is no JSON object")
        picture = form.get("image")
        if isinstance(picture, UploadFile):
            values["image"] = base64.b64encode(await picture.read()).decode()
        elif picture is not None:
            raise Problem(HTTPStatus.BAD_REQUEST, "the field `image` of the form is no file")
        return values


def read_json(data: bytes) -> Any:
    """Raises Problem for what is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, "the request is no JSON in UTF-8") from None


def validated(model: type[Model], values: Any) -> Model:
    """Raises Problem, which names what is at fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, told_of(error.errors(include_url=False))) from None


def told_of(problems: Sequence[Any]) -> str:
    """The first of pydantic's errors as one sentence."""
    return "; ".join(_sentence(one) for one in problems[:_MOST_TOLD])


def _sentence(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    shown = {**problem, "input": str(problem.get("input"))[:60]}
    return f"{where}: {explain(shown)}" if where else explain(shown)


def read_vectors(data: bytes) -> NDArray[np.float32]:
    """The array (q, d) of a .npy file; float16, float32 or float64. Its header is checked before anything is made of it.

    Raises Problem for any other.
    """
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, kind = read(stream, max_header_size=1024)
    except (ValueError, SyntaxError, TypeError, EOFError, MemoryError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, "the request is no .npy file; make it with numpy.save") from None
    body = data[stream.tell() :]
    if by_columns or len(shape) != 2 or kind.kind != "f" or kind.itemsize > 8:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            f"an array of shape {shape} of {kind} was sent; send floats of shape (queries, dimension)",
        )
    if min(shape) < 1 or shape[0] * shape[1] * kind.itemsize != len(body):
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"an array of shape {shape} of {kind} was announced, and another length sent"
        )
    array: NDArray[np.float32] = np.frombuffer(body, kind).reshape(shape).astype(np.float32)
    return array
