"""Single requests for one object or prefix, with their failures told in words. Paths are ``bucket/key``."""

from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from clipmill.storage.s3.client import client
from clipmill.storage.s3.errors import FAILURES, code_of, status_of, told

_HEAD_WITHOUT_REASON = (400, 401, 403)


def split(path: str) -> tuple[str, str]:
    """Bucket and key of a path; the key is empty for a bucket."""
    bucket, _, key = path.partition("/")
    return bucket, key


def ask(operation: str, path: str, permission: str, **arguments: Any) -> Any:
    """One request for the object at ``path``.

    Raises FileNotFoundError when it is absent, StorageRefused or StorageFailed when that cannot be found out.
    """
    bucket, key = split(path)
    with told(path, permission):
        return getattr(client(), operation)(Bucket=bucket, Key=key, **arguments)


def head(path: str) -> dict[str, Any] | None:
    """What the store knows of an object, or None where there is none (or no such bucket)."""
    bucket, key = split(path)
    try:
        with told(path, "s3:GetObject"):
            try:
                found: dict[str, Any] = client().head_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if status_of(error) in _HEAD_WITHOUT_REASON:  # the answer to HEAD has no body that would say why
                    client().get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
                raise
    except FileNotFoundError:
        return None
    return found


def bucket_is_absent(bucket: str) -> bool:
    """Whether there is certainly no such bucket; one that the store does not tell about counts as there.

    Raises StorageRefused where what the environment says leads to no store.
    """
    with told(bucket, "s3:ListBucket"):
        made = client()
    try:
        made.head_bucket(Bucket=bucket)
    except ParamValidationError:
        return True
    except FAILURES as error:
        return code_of(error) in ("404", "NoSuchBucket")
    return False


def version_of(answer: dict[str, Any]) -> str:
    """The ETag in an answer, without quotes."""
    return str(answer.get("ETag", "")).strip('"')
