"""Whole objects from place to place: up, down to a local cache, across on the server; and writes with a condition."""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import IO, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from clipmill.core.errors import RunFailed, StorageFailed, StorageRefused
from clipmill.storage.s3.client import client, pause
from clipmill.storage.s3.errors import code_of, status_of, told
from clipmill.storage.s3.reading import Body
from clipmill.storage.s3.requests import ask, head, split, version_of

_LOG = logging.getLogger(__name__)
SMALL = 8 << 20
_PART = 16 << 20
_THREADS = 8
_COPY_WHOLE = 1 << 30
_UP = TransferConfig(multipart_threshold=SMALL, multipart_chunksize=_PART, max_concurrency=_THREADS)
_ACROSS = TransferConfig(multipart_threshold=_COPY_WHOLE, multipart_chunksize=256 << 20, max_concurrency=_THREADS)
_CONFLICTS = 5


def upload(stream: IO[bytes], path: str) -> None:
    """A local file, open for reading, as an object: above 8 MiB in parts, each retried by itself."""
    bucket, key = split(path)
    stream.seek(0)
    with told(path, "s3:PutObject"):
        client().upload_fileobj(stream, bucket, key, Config=_UP)


def put_if(path: str, data: bytes, version: str | None) -> str | None:
    """Writes an object only where ``version`` is what is there (None: nothing); its new version, or None if it is not.

    A store without conditional writes is written to all the same, since there is nothing better to be had there. Raises
    StorageFailed when the store could not decide between writers, however often it was asked.
    """
    bucket, key = split(path)
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": f'"{version}"'}
    with told(path, "s3:PutObject"):
        for attempt in range(1, _CONFLICTS + 1):
            try:
                return version_of(client().put_object(Bucket=bucket, Key=key, Body=data, **condition))
            except ClientError as error:
                code, status = code_of(error), status_of(error)
                if code == "NotImplemented" or status == 501:
                    _say_once(f"s3://{bucket}")
                    return version_of(client().put_object(Bucket=bucket, Key=key, Body=data))
                if code in ("PreconditionFailed", "412", "NoSuchKey"):
                    return _own_earlier_write(path, data)
                if code != "ConditionalRequestConflict" and status != 409:
                    raise
            time.sleep(pause(attempt))
    raise StorageFailed(
        f"s3://{path}: others wrote to it at the same time, {_CONFLICTS} times in a row; run the same command again"
    )


def _own_earlier_write(path: str, data: bytes) -> str | None:
    """The version of what is there if it is this data: a write whose answer was lost is repeated, and then refused."""
    with suppress(FileNotFoundError):
        found, version, _ = get(path)
        if found == data:
            return version
    return None


_said: set[str] = set()


def _say_once(store: str) -> None:
    if store not in _said:
        _said.add(store)
        _LOG.warning("%s has no conditional writes: nothing but care keeps two runs apart there", store)


def get(path: str) -> tuple[bytes, str, float]:
    """A whole small object, its version, and its age in seconds by the store's own clock."""
    answer = ask("get_object", path, "s3:GetObject")
    version = version_of(answer)
    data = Body(path, 0, int(answer["ContentLength"]), version, answer).read()
    return data, version, _age(answer)


def _age(answer: dict[str, Any]) -> float:
    told_now = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(told_now) if told_now else datetime.now(timezone.utc)
    return float((now - answer["LastModified"]).total_seconds())


def copy(source: str, target: str, size: int) -> None:
    """An object to another place in the store, without its bytes coming here; large ones in parts, in parallel.

    Raises RunFailed when there is no such object.
    """
    bucket, key = split(source)
    target_bucket, target_key = split(target)
    try:
        with told(target, "s3:PutObject"):
            if size <= _COPY_WHOLE:
                client().copy_object(CopySource={"Bucket": bucket, "Key": key}, Bucket=target_bucket, Key=target_key)
            else:
                client().copy({"Bucket": bucket, "Key": key}, target_bucket, target_key, Config=_ACROSS)
    except FileNotFoundError:
        raise RunFailed(
            f"s3://{source}, which was to be copied to s3://{target}, is gone; run the same command again"
        ) from None


def abort_uploads(folder: str) -> None:
    """Drops what unfinished uploads left below a folder, where the store lets us see it: it is paid for by the byte."""
    bucket, key = split(folder.rstrip("/"))
    arguments = {"Bucket": bucket, "Prefix": f"{key}/"}
    with suppress(StorageRefused, StorageFailed, FileNotFoundError), told(folder, "s3:ListBucketMultipartUploads"):
        for page in client().get_paginator("list_multipart_uploads").paginate(**arguments):
            for upload in page.get("Uploads", ()):
                client().abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def download(path: str, target: str) -> bool:
    """An object to a local file, in parallel parts; whether parts were there from an earlier start.

    Parts that are done are listed in ``target.parts``: what breaks off is continued, as long as the object is the same.
    The caller checks the content, owns ``target`` and removes the list. Raises FileNotFoundError, RunFailed for a
    replaced object, StorageFailed, StorageRefused.
    """
    found = head(path)
    if found is None:
        raise FileNotFoundError(f"s3://{path}")
    size, version = int(found["ContentLength"]), version_of(found)
    done = _parts_done(target, version)
    starts = [start for start in range(0, size, _PART) if start not in done]
    with open(target, "r+b" if done else "wb") as file, open(f"{target}.parts", "a" if done else "w") as journal:
        if not done:
            file.truncate(size)
            journal.write(json.dumps(version) + "\n")
            journal.flush()

        def fetch(start: int) -> None:
            data = Body(path, start, min(start + _PART, size), version).read()
            os.pwrite(file.fileno(), data, start)
            os.write(journal.fileno(), f"{start}\n".encode())

        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                list(pool.map(fetch, starts))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return bool(done)


def _parts_done(target: str, version: str) -> set[int]:
    try:
        with open(f"{target}.parts") as journal:
            lines = journal.read().split("\n")[:-1]
        same = os.path.exists(target) and lines[:1] == [json.dumps(version)]
    except FileNotFoundError:
        return set()
    return {int(line) for line in lines[1:]} if same else set()
