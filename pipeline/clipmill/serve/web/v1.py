"""The paths of the interface: search, items, indices."""

import io
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Query, Request, Response

from clipmill.serve.answers.answer import Columns, IndexFacts, Item, Problem, SearchAnswer
from clipmill.serve.answers.plain import to_json
from clipmill.serve.web import bodies
from clipmill.serve.web.schema import SEARCH_BODY, VECTORS_BODY
from clipmill.serve.web.state import Running

_ARROW = "application/vnd.apache.arrow.stream"
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description, "content": {"application/problem+json": {}}}
    for status, description in {
        400: "What was asked cannot be answered",
        401: "No token, or an unknown one",
        403: "Asked under another name than this machine's",
        404: "There is no such index or row",
        413: "Too large",
        415: "Neither JSON nor a form",
        422: "A field is wrong",
        429: "Too many at once; Retry-After says when to come back",
        503: "Not ready, or something cannot be read now",
    }.items()
}
Name = Annotated[str | None, Query(max_length=200, description="The name of an index; by default the first.")]


def json_response(document: Any) -> Response:
    """An answer that no cache keeps."""
    return Response(to_json(document), media_type="application/json", headers={"Cache-Control": "no-store"})


def v1_routes(running: Running) -> APIRouter:
    """Routes to the service that is running."""
    router = APIRouter(prefix="/v1", responses=_FAILURES)

    @router.post(
        "/search",
        response_model=SearchAnswer,
        openapi_extra=SEARCH_BODY,
        summary="Search by words, picture, id or vector",
    )
    async def search(request: Request) -> Response:
        """The best rows for one query, or for several parts with weights. A form with a file `image` is a search by that
        picture, with further fields as JSON in `request`."""
        asked = await bodies.search_request(request)
        answer, query = await running.admission.run(running.service.search, asked)
        running.asked(asked, query)
        return json_response(answer)

    @router.post(
        "/vectors",
        openapi_extra=VECTORS_BODY,
        response_class=Response,
        responses={200: {"content": {_ARROW: {}}, "description": "query, rank, row, score; sorted by query and rank"}},
        summary="Many vectors at once, binary",
    )
    async def vectors(
        request: Request,
        k: Annotated[int, Query(ge=1, description="Results of each query.")] = 10,
        where: Annotated[str | None, Query(description="An SQL condition on the columns of the index.")] = None,
        index: Name = None,
    ) -> Response:
        """An array (queries, dimension) as a .npy file in; an Arrow stream out. Its headers name the version."""
        queries = bodies.read_vectors(await request.body())
        table, served = await running.admission.run(running.service.search_vectors, queries, k, where, index)
        running.asked_vectors(queries, k)
        stream = io.BytesIO()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        told = {"Clipmill-Version": served.opened.version or "", "Clipmill-Manifest": served.opened.manifest_sha256}
        return Response(stream.getvalue(), media_type=_ARROW, headers={"Cache-Control": "no-store", **told})

    @router.get("/items/{id:path}", response_model=Item, summary="One row, by its id")
    async def item(id: str, index: Name = None, vector: bool = False) -> Response:
        """Its columns, captions and small picture; of several rows with the same id the first."""
        return json_response(await running.admission.run(running.service.item, id, index, with_vector=vector))

    @router.get("/indices", response_model=list[IndexFacts], summary="What is served")
    async def indices() -> Response:
        """Every index, with its version, and the recall that was measured for it."""
        return json_response(await running.admission.run(running.service.facts))

    @router.get("/indices/{name}/columns", response_model=Columns, summary="What filters there are")
    async def columns(name: str) -> Response:
        """The range of each column, or its values with how many rows have each."""
        return json_response(await running.admission.run(running.service.columns, name))

    return router
