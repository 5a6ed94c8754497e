"""Failures as problem documents (RFC 9457): what happened, in one sentence, with a status and when to come back."""

from http import HTTPStatus
from typing import Any

from clipmill.core.errors import ClipmillError, UserError
from clipmill.core.secrets import clean

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is not answered. ``retry_after`` is in seconds."""

    def __init__(self, status: int, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = clean(detail)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def document(self) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }


def problem_of(error: ClipmillError) -> Problem:
    """A mistake of who asks is theirs; what could not be read now may be there again in a moment."""
    if isinstance(error, UserError):
        return Problem(HTTPStatus.BAD_REQUEST, str(error))
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), retry_after=5)
