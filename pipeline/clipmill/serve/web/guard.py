"""What stands before every path: who is let in, how much may be sent, what each answer is told with, and what is counted."""

import logging
import time
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipmill.core.errors import ClipmillError
from clipmill.serve.answers.plain import to_json
from clipmill.serve.problems import MEDIA_TYPE, Problem, problem_of
from clipmill.serve.web.access import Access
from clipmill.serve.web.metrics import Metrics

_LOG = logging.getLogger(__name__)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware around the whole application. Whatever fails inside becomes a problem document."""

    def __init__(self, app: ASGIApp, access: Access, body_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._access = access
        self._body_bytes = body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            client = scope.get("client")
            self._access.check(scope["path"], scope["headers"], client[0] if client else None)
            await self._app(scope, _counted(receive, scope, self._body_bytes), answer)
        except Problem as problem:
            await answer.problem(problem)
        except ClipmillError as error:
            await answer.problem(problem_of(error))
        except Exception as error:
            _LOG.exception("%s %s failed", scope["method"], scope["path"], exc_info=error)
            await answer.problem(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log says why"))
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, answer.status, time.perf_counter() - started)


class _Answer:
    """Sends, with the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        await self._send(message)

    async def problem(self, problem: Problem) -> None:
        if self.status:
            return  # the answer had begun: all that can be done is to end it
        body = to_json(problem.document())
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": problem.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})


def _counted(receive: Receive, scope: Scope, most: int) -> Receive:
    """Receives at most so many bytes. Raises Problem for more, at once where the length is told."""
    told = dict(scope["headers"]).get(b"content-length", b"0")
    taken = 0

    async def limited() -> Any:
        nonlocal taken
        if told.isdigit() and int(told) > most:
            raise _too_large(most)
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _too_large(most)
        return message

    return limited


def _too_large(most: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"a request may have {most:,} bytes; send a smaller picture or fewer vectors",
    )
