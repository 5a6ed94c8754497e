"""The application: a service, who may ask it and how much, behind paths."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from clipmill.core.errors import ClipmillError
from clipmill.serve.answers.plain import to_json
from clipmill.serve.problems import MEDIA_TYPE, Problem, problem_of
from clipmill.serve.service import Service
from clipmill.serve.web.access import Access
from clipmill.serve.web.admission import Admission
from clipmill.serve.web.bodies import told_of
from clipmill.serve.web.clip_retrieval import clip_retrieval_routes
from clipmill.serve.web.guard import Guard
from clipmill.serve.web.metrics import Metrics
from clipmill.serve.web.pages import page_routes
from clipmill.serve.web.schema import describe
from clipmill.serve.web.state import QueryLog, Running
from clipmill.serve.web.v1 import v1_routes


def make_app(
    service: Service, access: Access, metrics: Metrics | None = None, queries: QueryLog | None = None
) -> FastAPI:
    """The paths of `clipmill serve` and `clipmill explore`. While the application runs, its indices are followed."""
    running = Running(service, Admission(service.limits), metrics or Metrics(), queries)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = service.watch()
        watch.start()
        running.draining = False
        try:
            yield
        finally:
            running.draining = True
            watch.stop()
            running.admission.close()
            if running.queries is not None:
                running.queries.close()

    app = FastAPI(title="clipmill", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.running = running
    app.include_router(v1_routes(running))
    app.include_router(page_routes(app, running))
    if access.tokens is None:
        app.include_router(clip_retrieval_routes(running))
    describe(app, with_tokens=access.tokens is not None)
    _tell_problems(app)
    app.add_middleware(Guard, access=access, body_bytes=service.limits.body_bytes, metrics=running.metrics)
    return app


def _tell_problems(app: FastAPI) -> None:
    """Every failure is a problem document, those of FastAPI too."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return _response(error)

    @app.exception_handler(ClipmillError)
    async def failure(request: Request, error: ClipmillError) -> Response:
        return _response(problem_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _response(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, told_of(error.errors())))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        sentences = {
            HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path[:200]}; /docs lists what there is",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at {request.url.path[:200]}; see /docs",
        }
        sentence = sentences.get(HTTPStatus(error.status_code), str(error.detail))
        response = _response(Problem(error.status_code, sentence))
        response.headers.update(error.headers or {})
        return response


def _response(problem: Problem) -> Response:
    headers: dict[str, Any] = problem.headers
    return Response(to_json(problem.document()), problem.status, headers, MEDIA_TYPE)
