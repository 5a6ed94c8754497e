"""A URI in, a filesystem out: local paths and S3."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow.fs as fs

from clipmill.core.errors import UserError

STAGING = ".staging"
"""How the name of a folder ends in which a dataset is made before it is published."""
_QUERY = re.compile(r"\?[\w.-]+=")


@dataclass(frozen=True)
class Location:
    """One place: the filesystem it is on, its path there, and the URI the user knows it by."""

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def sibling(self, name: str) -> "Location":
        """The place called ``name`` in the folder that holds this one."""
        path, uri = self.path.rstrip("/"), self.uri.rstrip("/")
        parent, _, _ = path.rpartition("/")
        uri_parent, _, _ = uri.rpartition("/")
        return Location(self.filesystem, f"{parent}/{name}", f"{uri_parent}/{name}")

    def __str__(self) -> str:
        return self.uri


def resolve(uri: str | Path) -> Location:
    """The location a user means: ``s3://bucket/key``, ``file://`` or a local path (made absolute).

    Nothing is asked of the storage yet. Raises UserError for a scheme that is not known and a URI that holds credentials
    or settings, which belong into the environment.
    """
    text = str(uri)
    if not text.strip():
        raise UserError("an empty path was given where a file or folder is needed")
    scheme = text.split("://", 1)[0] if "://" in text else ""
    if re.match(r"(s3|gs|gcs|https?|hdfs|abfss?|az):/(?!/)", text):
        raise UserError(
            f"{text} has one slash where an address has two; write s3://bucket/prefix, or ./{text} for a local path"
        )
    if scheme in ("", "file"):
        path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
        return Location(fs.LocalFileSystem(), path, path)
    if scheme != "s3":
        raise UserError(
            f"{_without_secrets(text)}: storage of kind {scheme}:// is not supported; use a local path or "
            "s3://bucket/prefix"
        )
    path = text.removeprefix("s3://").rstrip("/")
    bucket, _, _ = path.partition("/")
    if "@" in bucket or _QUERY.search(path):
        raise UserError(
            f"{_without_secrets(text)}: credentials and settings are not taken from a URI; set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_REGION instead, and write s3://bucket/prefix"
        )
    if not bucket:
        raise UserError(f"{text} names no bucket; write s3://bucket/prefix")
    if "//" in path:
        raise UserError(f"{text}: there is an empty name between two slashes; write s3://bucket/prefix")
    return Location(_s3_filesystem(), path, f"s3://{path}")


def _without_secrets(uri: str) -> str:
    """A URI without what stands before an @ or after a question mark, where credentials may be."""
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    path = path.partition("?")[0]
    return f"{scheme}://{authority.rpartition('@')[2].partition('?')[0]}{slash}{path}"


@lru_cache(maxsize=1)
def _s3_filesystem() -> fs.FileSystem:
    """Imported when it is first needed: a worker of a local run has no use for boto3."""
    from clipmill.storage.s3.filesystem import S3Handler

    return fs.PyFileSystem(S3Handler())
