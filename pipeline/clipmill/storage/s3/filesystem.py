"""S3 as a pyarrow filesystem. It carries nothing but its kind, so it travels to any worker and finds its client there."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs

from clipmill.storage.s3.client import client
from clipmill.storage.s3.errors import told
from clipmill.storage.s3.reading import ObjectFile, ObjectStream
from clipmill.storage.s3.requests import ask, head, split

_DELETED_AT_ONCE = 1000


class S3Handler(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Paths are ``bucket/key``. A folder is a prefix that has keys; keys that end with ``/`` are no files.

    Raises FileNotFoundError for an object that is not there, StorageRefused where this user is not let in, StorageFailed
    where the store does not answer, and RunFailed for an object that is replaced while it is read.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Handler)

    def __hash__(self) -> int:
        return hash(S3Handler)

    def __reduce__(self) -> tuple[type["S3Handler"], tuple[()]]:
        return S3Handler, ()

    def get_type_name(self) -> str:
        return "s3"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [_describe(path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        found = list(_list(selector.base_dir.rstrip("/"), recursive=selector.recursive))
        if not found and not selector.allow_not_found and _describe(selector.base_dir).type == fs.FileType.NotFound:
            raise FileNotFoundError(f"s3://{selector.base_dir}")
        return found

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(ObjectFile(path), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(ObjectStream(path), mode="r")

    def delete_file(self, path: str) -> None:
        ask("delete_object", path, "s3:DeleteObject")

    def delete_dir(self, path: str) -> None:
        delete_below(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        delete_below(path)

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing to do: folders are there when something is in them."""

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("all buckets are never deleted")

    def move(self, src: str, dest: str) -> None:
        raise NotImplementedError("objects are copied, not moved")

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError("see clipmill.storage.s3.transfer.copy")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("see clipmill.storage.atomic_writer")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("objects cannot be appended to")


def delete_below(path: str) -> int:
    """Deletes all objects below a folder, a thousand a request; how many there were."""
    deleted = 0
    batch: list[str] = []
    for key in (item["Key"] for page in _pages(path) for item in page.get("Contents", ())):
        batch.append(key)
        if len(batch) == _DELETED_AT_ONCE:
            delete_objects(split(path)[0], batch)
            deleted, batch = deleted + len(batch), []
    if batch:
        delete_objects(split(path)[0], batch)
    return deleted + len(batch)


def delete_objects(bucket: str, keys: list[str]) -> None:
    """Deletes up to a thousand objects of one bucket in one request; those that it left, one by one."""
    for start in range(0, len(keys), _DELETED_AT_ONCE):
        some = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
        first = f"{bucket}/{some[0]['Key']}"
        with told(first, "s3:DeleteObject"):
            answer = client().delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
        for left in answer.get("Errors", ()):
            if left.get("Code") != "NoSuchKey":
                ask("delete_object", f"{bucket}/{left['Key']}", "s3:DeleteObject")


def is_prefix(path: str) -> bool:
    """Whether any key of the bucket begins like this."""
    bucket, key = split(path)
    with told(path, "s3:ListBucket"):
        return bool(client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))


def _describe(path: str) -> fs.FileInfo:
    path = path.rstrip("/")
    _, key = split(path)
    found = head(path) if key else None
    if found is not None:
        return fs.FileInfo(path, fs.FileType.File, size=found["ContentLength"], mtime=found["LastModified"])
    page = next(_pages(path, limit=1))
    return fs.FileInfo(path, fs.FileType.NotFound if key and not page.get("Contents") else fs.FileType.Directory)


def _list(folder: str, *, recursive: bool) -> Iterator[fs.FileInfo]:
    bucket = split(folder)[0]
    for page in _pages(folder, delimiter=None if recursive else "/"):
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):
                path = f"{bucket}/{item['Key']}"
                yield fs.FileInfo(path, fs.FileType.File, size=item["Size"], mtime=item["LastModified"])
        for item in page.get("CommonPrefixes", ()):
            yield fs.FileInfo(f"{bucket}/{item['Prefix'].rstrip('/')}", fs.FileType.Directory)


def _pages(folder: str, *, delimiter: str | None = None, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """Pages of keys below a folder, a thousand a request; with ``limit``, one page of so many."""
    bucket, key = split(folder.rstrip("/"))
    arguments: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
    if delimiter:
        arguments["Delimiter"] = delimiter
    with told(folder, "s3:ListBucket"):
        if limit is not None:
            yield client().list_objects_v2(MaxKeys=limit, **arguments)
        else:
            yield from client().get_paginator("list_objects_v2").paginate(**arguments)
