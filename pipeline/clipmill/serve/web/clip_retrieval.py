"""The protocol of clip-retrieval's back end, for programs that speak it: `/knn-service`, `/metadata`, `/indices-list`."""

from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from clipmill.serve.answers.request import Number, Row, SearchRequest
from clipmill.serve.problems import Problem
from clipmill.serve.web import bodies
from clipmill.serve.web.state import Running
from clipmill.serve.web.v1 import json_response

_MOST_IDS = 1000


class _Query(BaseModel):
    """What a client sends. What it asks beyond a search (deduplication, safety, aesthetics) has no effect here."""

    model_config = ConfigDict(extra="ignore")

    indice_name: str = Field(max_length=200)
    text: str | None = None
    image: Base64Bytes | None = None
    image_url: str | None = None
    embedding_input: list[Number] | None = None
    modality: Literal["image", "text"] = "image"
    num_images: int = Field(default=40, ge=1)
    num_result_ids: int | None = Field(default=None, ge=0)


class _Ids(BaseModel):
    ids: list[Row] = Field(max_length=_MOST_IDS)
    indice_name: str = Field(max_length=200)


def clip_retrieval_routes(running: Running) -> APIRouter:
    """Routes as clip-retrieval's ``ClipClient`` and page call them. An ``id`` there is a row number here."""
    router = APIRouter(include_in_schema=False)

    @router.post("/knn-service")
    async def knn_service(request: Request) -> Response:
        query = bodies.validated(_Query, bodies.read_json(await request.body()))
        asked = _search_of(query)
        answer, kept = await running.admission.run(running.service.search, asked)
        running.asked(asked, kept)
        return json_response([_result(one) for one in answer["results"]])

    @router.post("/metadata")
    async def metadata(request: Request) -> Response:
        asked = bodies.validated(_Ids, bodies.read_json(await request.body()))
        return json_response(await running.admission.run(_metadata, running, asked))

    @router.get("/indices-list")
    async def indices_list() -> Response:
        return json_response([one.name for one in running.service.indices])

    return router


def _search_of(query: _Query) -> SearchRequest:
    if query.image_url is not None:
        raise Problem(HTTPStatus.BAD_REQUEST, "a picture by URL is not fetched; send the picture itself as image")
    ways = {"text": query.text, "image": query.image, "vector": query.embedding_input}
    given: dict[str, Any] = {way: value for way, value in ways.items() if value is not None}
    if len(given) != 1:
        raise Problem(HTTPStatus.BAD_REQUEST, "give one of text, image and embedding_input")
    ((way, value),) = given.items()
    request = SearchRequest.model_construct(**{way: value})
    return request.model_copy(
        update={"index": query.indice_name, "k": query.num_images, "include": ["columns", "caption"]}
    )


def _result(result: dict[str, Any]) -> dict[str, Any]:
    """Columns lie beside ``id`` and ``similarity``; the row's own id is ``key``, as img2dataset calls it."""
    columns = {name: value for name, value in result["columns"].items() if name not in ("id", "similarity")}
    caption = {"caption": result["caption"]} if result.get("caption") is not None else {}
    return {"key": result["id"], **caption, **columns, "id": result["row"], "similarity": result["score"]}


def _metadata(running: Running, asked: _Ids) -> list[dict[str, Any]]:
    served = running.service.served(asked.indice_name)
    found = []
    for row in asked.ids:
        position = served.opened.position_of_row(row)
        if position is None or not served.shows(position):
            raise Problem(HTTPStatus.NOT_FOUND, f"id {row}: no row of the index has this number")
        found.append({"id": row, "metadata": served.metadata(position)})
    return found
