"""An S3 server over HTTP for tests, behind a proxy that spoils a chosen share of the requests.

with FaultyS3() as store:
    store.environment        variables that lead boto3, and so the pipeline, to it
    store.share = 0.1        from now on one request in ten is spoiled, in turn in every way of ``store.kinds``
    store.plan = function    or: (number of the request, method, path) -> a way, or None
    store.requests, store.faults
"""

import http.client
import logging
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

_Store = TypeVar("_Store", bound="FaultyS3")
KINDS = ("500", "503", "reset", "lost answer", "short")
STALL_SECONDS = 4.0
ACCESS_KEY, SECRET_KEY = "AKIATESTACCESSKEY007", "v3rySecretKey/ofTheTests+0042"
BUCKET = "bucket"
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>%s</Message><RequestId>0</RequestId></Error>"
_ANSWERS = {
    "500": (500, _ERROR % (b"InternalError", b"We encountered an internal error. Please try again.")),
    "503": (503, _ERROR % (b"SlowDown", b"Please reduce your request rate.")),
    "501": (501, _ERROR % (b"NotImplemented", b"A header you provided implies functionality that is not implemented")),
    "409": (409, _ERROR % (b"ConditionalRequestConflict", b"A conflicting operation occurred. Please try again.")),
    "403": (403, _ERROR % (b"AccessDenied", b"Access Denied")),
    "expired": (400, _ERROR % (b"ExpiredToken", b"The provided token has expired.")),
    "unknown key": (403, _ERROR % (b"InvalidAccessKeyId", b"The AWS Access Key Id you provided does not exist")),
    "wrong signature": (403, _ERROR % (b"SignatureDoesNotMatch", b"The request signature does not match")),
    "moved": (
        400,
        _ERROR % (b"AuthorizationHeaderMalformed", b"the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
    ),
}


class FaultyS3:
    """The server, its proxy and what they counted. One bucket called ``bucket`` is there from the beginning."""

    def __init__(self, seed: int = 0) -> None:
        self.share = 0.0
        self.ahead = 0.0
        """Seconds that its clock, as it tells it, is ahead of the one by which it notes when objects were written."""
        self.kinds: tuple[str, ...] = KINDS
        self.plan: Callable[[int, str, str], str | None] | None = None
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.faults: Counter[str] = Counter()
        self.writing: AbstractContextManager[Any] = threading.Lock()
        """The server looks at a condition and then writes, in two steps; S3 does it in one."""
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def start_server(self) -> tuple[str, int]:
        """Host and port of a server without buckets, which the proxy is put before."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        return host, port

    def end_server(self) -> None:
        """Ends it, with all that it holds."""
        self.behind_request("POST", "/moto-api/reset")
        self._server.stop()

    def __enter__(self: _Store) -> _Store:
        self.behind = self.start_server()
        self._proxy = _Proxy(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.client.create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self.close_proxy()
        self.end_server()

    def close_proxy(self) -> None:
        """From now on there is nothing at the address that the environment names."""
        self._proxy.shutdown()
        self._proxy.server_close()

    @property
    def environment(self) -> dict[str, str]:
        host, port = self._proxy.server_address[:2]
        return {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def client(self) -> Any:
        """A client that goes round the proxy."""
        host, port = self.behind
        return boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        )

    def listed(self) -> list[str]:
        """All keys that are there, in byte order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def put_many(self, keys: Iterable[str]) -> None:
        """Empty objects, put where the server keeps them, since so many requests would take long."""
        for key in keys:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, key, b"")

    def forget_counts(self) -> None:
        self.requests.clear()
        self.faults.clear()
        self.headers.clear()

    def behind_request(self, method: str, path: str) -> None:
        connection = http.client.HTTPConnection(*self.behind)
        connection.request(method, path)
        connection.getresponse().read()
        connection.close()

    def fault_of(self, method: str, path: str, headers: dict[str, str]) -> str | None:
        """What is done to a request, which is counted."""
        with self._lock:
            number = self.requests.total()
            self.requests[method] += 1
            self.headers.append(headers)
            kind = None
            if self.plan is not None:
                kind = self.plan(number, method, path)
            elif self._random.random() < self.share:
                kind = self.kinds[self.faults.total() % len(self.kinds)]
            if kind == "short" and method != "GET":
                kind = "reset"
            if kind is not None:
                self.faults[kind] += 1
            return kind


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without the polite end before it, which would hide a reset

    def handle_error(self, *_: object) -> None:
        """A client that went away is no concern of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which holds back the body of a small answer for 40 ms
    store: FaultyS3

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items())
        kind = self.store.fault_of(self.command, self.path, headers)
        if kind in _ANSWERS:
            status, text = _ANSWERS[kind]
            self._send(status, {"Content-Type": "application/xml"}, text)
        elif kind == "reset":
            self._reset()
        elif kind == "stall":
            time.sleep(STALL_SECONDS)
            self._reset()
        else:
            status, reply_headers, reply = self._forward(body, headers)
            if kind == "lost answer":
                self._reset()
            else:
                self._send(status, reply_headers, reply, reply[: len(reply) // 2] if kind == "short" else None)

    def _forward(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.store.behind)
        try:
            parts = urlsplit(self.path)
            headers.pop("Expect", None)
            with self.store.writing if self.command == "PUT" else nullcontext():
                connection.request(self.command, f"{parts.path}?{parts.query}", body or None, headers)
                reply = connection.getresponse()
                return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes, only: bytes | None = None) -> None:
        self.send_response_only(status)
        kept = {
            name: value for name, value in headers.items() if name.lower() not in ("connection", "transfer-encoding")
        }
        if self.command != "HEAD":
            kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
            kept["Content-Length"] = str(len(body))
        kept = {name: value for name, value in kept.items() if name.lower() != "date"}
        kept["Date"] = self.date_time_string(time.time() + self.store.ahead)
        for name, value in kept.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if only is None else only)
        if only is not None:
            self._reset(hard=False)

    def _reset(self, *, hard: bool = True) -> None:
        """Ends the connection; hard: so that the other side reads "connection reset by peer"."""
        self.close_connection = True
        if hard:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: object) -> None:
        """Tests read their own counts."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer
