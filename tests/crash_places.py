"""Where the commands of `crash_points` write: a folder, or a folder and a bucket; kept, put back, and listed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import boto3
from botocore.config import Config

BUCKET = "bucket"
_KEY, _SECRET = "AKIATESTACCESSKEY007", "v3rySecretKey/ofTheTests+0042"
_START_SECONDS = 60.0


class Place(Protocol):
    """A folder that commands work in, and what they write besides."""

    folder: Path
    at: str
    """What goes before the names of datasets."""
    watched: str
    """Whose changes are counted: ``disk`` or ``s3``."""

    def keep(self) -> None:
        """Remembers what is there now."""

    def restore(self) -> None:
        """Makes it as it was when it was kept."""

    def clear(self) -> None:
        """Drops what is there and what was kept."""

    def names(self) -> set[str]:
        """What is there, by names that two runs of one command share."""

    def versions(self) -> list[str]:
        """Those published at ``out``, the oldest first."""


class OnDisk:
    """Everything below one folder."""

    at, watched = "", "disk"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept = folder.with_name(f"{folder.name}.kept")

    def keep(self) -> None:
        shutil.copytree(self.folder, self._kept, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder, symlinks=True)

    def clear(self) -> None:
        for folder in (self.folder, self._kept):
            shutil.rmtree(folder, ignore_errors=True)

    def names(self) -> set[str]:
        return {_plain(path.relative_to(self.folder).as_posix()) for path in self.folder.rglob("*") if path.is_file()}

    def versions(self) -> list[str]:
        runs = self.folder / "out/runs"
        return sorted(path.name for path in runs.iterdir()) if runs.exists() else []


class OnS3(OnDisk):
    """Inputs in a folder, and datasets in a bucket that belongs to nobody else."""

    at, watched = f"s3://{BUCKET}/", "s3"

    def __init__(self, folder: Path, client: Any) -> None:
        super().__init__(folder)
        self._client = client
        self._objects: dict[str, tuple[str, bytes]] = {}

    def keep(self) -> None:
        super().keep()
        self._objects = {
            key: (etag, self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            for key, etag in self._listed().items()
        }

    def restore(self) -> None:
        super().restore()
        self._abort_uploads()
        there = self._listed()
        for key in there.keys() - self._objects.keys():
            self._client.delete_object(Bucket=BUCKET, Key=key)
        for key, (etag, data) in self._objects.items():
            if there.get(key) != etag:
                self._client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def clear(self) -> None:
        super().clear()
        self._abort_uploads()
        for key in self._listed():
            self._client.delete_object(Bucket=BUCKET, Key=key)

    def names(self) -> set[str]:
        uploads = {f"unfinished upload of {_plain(key)}" for key, _ in self._uploads()}
        return {*map(_plain, self._listed()), *uploads}

    def versions(self) -> list[str]:
        keys = (key.split("/") for key in self._listed())
        return sorted({parts[2] for parts in keys if parts[:2] == ["out", "runs"] and len(parts) > 3})

    def _listed(self) -> dict[str, str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}

    def _uploads(self) -> list[tuple[str, str]]:
        found = self._client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return [(upload["Key"], upload["UploadId"]) for upload in found]

    def _abort_uploads(self) -> None:
        for key, upload in self._uploads():
            self._client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)


def _plain(name: str) -> str:
    """A name without what a run makes up: the time in a version's, and the token of a part's."""
    parts = ["VERSION" if part[:2] == "20" and "Z-" in part else part for part in name.split("/")]
    return "/".join(parts).split("/part-", 1)[0]


@contextmanager
def s3_server(home: Path) -> Iterator[Any]:
    """A server in a process of its own (threads do not survive a fork) with an empty bucket; its client. The environment
    leads to it meanwhile, and to ``home`` for the cache."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(home),
    }
    try:
        with _environment(variables):
            config = Config(request_checksum_calculation="when_required")
            client = boto3.client("s3", endpoint_url=variables["AWS_ENDPOINT_URL"], config=config)
            _await(port, server)
            client.create_bucket(Bucket=BUCKET)
            yield client
    finally:
        server.terminate()
        server.wait()


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("moto's server did not start: install the extra `test`")


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
