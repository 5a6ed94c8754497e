"""The one boto3 client of a process: made when it is first needed, patient with faults, never pickled."""

import base64
import hashlib
import logging
import os
import random
import threading
import time
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError

from clipmill.storage.s3.settings import S3Settings, note_reached, was_reached

_LOG = logging.getLogger(__name__)
CONNECTIONS = 32
_FIRST_CONTACT_SECONDS = 4.0
_LONGEST_PAUSE = 20.0
_FAILED_FIRST = "clipmill_failed_first"
_TRANSIENT_STATUS = frozenset((408, 429, 500, 502, 503, 504))
_TRANSIENT_CODES = frozenset(
    ("InternalError", "RequestTimeout", "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException")
)

_clients: dict[tuple[int, S3Settings], Any] = {}
_making = threading.Lock()


def client() -> Any:
    """The client for what the environment says now. Threads share it; what cannot be set up raises botocore's error."""
    settings = S3Settings.from_environment()
    key = (os.getpid(), settings)
    with _making:
        if key not in _clients:
            _clients[key] = _make(settings)
        return _clients[key]


def forget() -> None:
    """Drops all clients, so that credentials are looked for anew."""
    with _making:
        _clients.clear()


def pause(attempt: int) -> float:
    """Seconds to wait after the given failed attempt (1, 2, …): random, so that workers do not come back together."""
    return random.uniform(0, min(_LONGEST_PAUSE, 0.5 * 2.0**attempt))


def _make(settings: S3Settings) -> Any:
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},  # see `_Patience`
        connect_timeout=min(10.0, settings.timeout),
        read_timeout=settings.timeout,
        max_pool_connections=CONNECTIONS,
        signature_version=UNSIGNED if settings.anonymous else None,
        s3=settings.style(),
        **settings.checksums(),
    )
    made = boto3.session.Session(region_name=settings.region).client("s3", config=config)
    made.meta.events.register_first("needs-retry.s3", _Patience(settings.endpoint, settings.patience))
    if settings.requester_pays:
        made.meta.events.register("before-call.s3", _pay)
    if settings.endpoint:
        made.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    return made


class _Patience:
    """Retries what may pass, for so many seconds a request.

    botocore's own limit counts the retries of all threads together and would give up a store that slows all of them
    down. An endpoint that has never answered is given up soon, since it is most likely wrong: by the process that the user
    started; those that it starts know that the store is there.
    """

    def __init__(self, endpoint: str | None, seconds: float) -> None:
        self._endpoint = endpoint
        self._seconds = seconds

    def __call__(
        self, response: Any, attempts: int, caught_exception: Any, request_dict: dict[str, Any], **_: Any
    ) -> float | None:
        if response is not None:
            note_reached(self._endpoint)
        if not _is_transient(response, caught_exception):
            return None
        limit = self._seconds if was_reached(self._endpoint) else min(self._seconds, _FIRST_CONTACT_SECONDS)
        now = time.monotonic()
        first: float = request_dict["context"].setdefault(_FAILED_FIRST, now)
        left = limit - (now - first)
        if left <= 0:
            return None
        seconds = min(pause(attempts), left)
        if attempts > 1:  # one that passes at once is not worth a word
            _LOG.info("S3 does not answer well (attempt %d); again for up to %.0f s", attempts, left)
        return seconds


def _is_transient(response: Any, caught: Any) -> bool:
    if response is None:
        return isinstance(caught, (NoConnection, HTTPClientError))
    http, parsed = response
    return http.status_code in _TRANSIENT_STATUS or parsed.get("Error", {}).get("Code") in _TRANSIENT_CODES


def _pay(params: dict[str, Any], **_: Any) -> None:
    params["headers"]["x-amz-request-payer"] = "requester"


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Stores that are older than AWS's present checksums insist on this one."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"].setdefault("Content-MD5", base64.b64encode(digest).decode())
