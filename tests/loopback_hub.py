"""A Hugging Face hub on loopback: repositories are folders, downloads can be cut short or have another hash than is said."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """``cut`` files end after so many bytes, ``wrong`` ones are told with another hash; ``asked`` are downloads with ranges."""

    root: Path
    address: str = ""
    cut: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *told: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(.+?/.+?)(/tree/.+|/revision/.+)?", path):
            self._repository(found[1], listed="/tree/" in path)
        elif (found := re.fullmatch(r"/(.+?/.+?)/resolve/[^/]+/(.+)", path)) and (self.hub.root / found[1]).is_dir():
            self._file(found[1], found[2], with_body=with_body)
        else:
            self._absent("RepoNotFound")

    def _absent(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _repository(self, name: str, *, listed: bool) -> None:
        if not (self.hub.root / name).is_dir():
            self._absent("RepoNotFound")
            return
        files = sorted(one for one in (self.hub.root / name).rglob("*") if one.is_file())
        paths = [str(one.relative_to(self.hub.root / name)) for one in files]
        told: object = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in paths]}
        if listed:
            sizes = [one.stat().st_size for one in files]
            told = [
                {"type": "file", "oid": COMMIT, "path": path, "size": size}
                for path, size in zip(paths, sizes, strict=True)
            ]
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, repository: str, name: str, *, with_body: bool) -> None:
        place = self.hub.root / repository / name
        if not place.is_file():
            self._absent("EntryNotFound")
            return
        data = place.read_bytes()
        digest = hashlib.sha256(data + b"!" if name in self.hub.wrong else data).hexdigest()
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0] or 0) if asked else 0
        if with_body:
            self.hub.asked.append((name, asked))
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if not with_body:
            return
        if name in self.hub.cut and start == 0:
            self.wfile.write(data[: self.hub.cut[name]])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        elif name in self.hub.cut:
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(data[start:])


@contextmanager
def loopback_hub(root: Path) -> Iterator[Hub]:
    """Serves the folders ORG/NAME below ``root`` as repositories."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
