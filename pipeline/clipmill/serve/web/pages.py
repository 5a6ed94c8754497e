"""What people and watchers see: the page, the description of the interface, health and metrics."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response

from clipmill.report.look.styles import page_style
from clipmill.serve.problems import Problem
from clipmill.serve.web import metrics
from clipmill.serve.web.reference import reference_page
from clipmill.serve.web.state import Running
from clipmill.serve.web.v1 import json_response

_FOLDER = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes(app: FastAPI, running: Running) -> APIRouter:
    """The files of the page are read once, and nothing else can be asked for by a path."""
    router = APIRouter(include_in_schema=False)
    files = {"look.css": (page_style().encode(), _TYPES[".css"])}
    files |= {
        file.name: (file.read_bytes(), _TYPES[file.suffix]) for file in _FOLDER.iterdir() if file.suffix in _TYPES
    }

    def file_response(name: str) -> Response:
        if name not in files:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no file {name!r} here")
        data, kind = files[name]
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

    @router.get("/")
    async def page() -> Response:
        return file_response("index.html")

    @router.get("/page/{name}")
    async def page_file(name: str) -> Response:
        return file_response(name)

    @router.get("/docs")
    async def docs() -> Response:
        return Response(reference_page(app.openapi()), media_type=_TYPES[".html"])

    @router.get("/metrics")
    async def metrics_text() -> Response:
        text = metrics.Metrics.text(running.metrics, running.service, running.admission.inside)
        return Response(text, media_type=metrics.MEDIA_TYPE)

    @router.get("/healthz")
    async def healthz() -> Response:
        if running.draining:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the service is being stopped", retry_after=5)
        return json_response(health(running))

    return router


def health(running: Running) -> dict[str, Any]:
    """That all indices are open. That a place cannot be read now is told, and is no reason to stop answering."""
    failing = sum(one.failing_since is not None for one in running.service.indices)
    return {"status": "ok", "indices": len(running.service.indices), "places_that_cannot_be_read": failing}
