"""Local copies of objects, named by their sha256: fetched once, continued where a download broke off, checked."""

import fcntl
import hashlib
import os
from pathlib import Path

from clipmill.core.errors import RunFailed
from clipmill.storage import copies
from clipmill.storage.s3.transfer import download
from clipmill.storage.written import named

_CHUNK = 8 << 20


def cached(path: str, cache: Path, digest: str) -> Path:
    """The copy of ``path`` (bucket/key) in ``cache``. Of several that want it at once, one downloads.

    What was used longest ago goes where the cache is larger than it should be. Raises RunFailed when there is no such
    object, when its bytes do not have the digest they should, or when the cache has no room; StorageFailed and
    StorageRefused as every request.
    """
    target = cache / f"{digest}-{path.rsplit('/', 1)[-1]}"
    if target.exists():
        copies.note_use(target)
        return target
    with named(str(target)):
        cache.mkdir(parents=True, exist_ok=True)
        with open(f"{target}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _download(path, target, digest)
                copies.shrink(cache, copies.limit())
            Path(lock.name).unlink(missing_ok=True)
    return target


def _download(path: str, target: Path, digest: str) -> None:
    """What an interrupted download left may be damaged: then it is made once more, from the beginning."""
    partial = target.with_name(f"{target.name}.partial")
    journal = target.with_name(f"{partial.name}.parts")
    continued, found = True, ""
    while continued:
        try:
            continued = download(path, str(partial))
        except FileNotFoundError:
            raise RunFailed(f"s3://{path} is missing: the dataset was altered, or is just being replaced") from None
        found = _sha256(partial)
        if found == digest:
            os.replace(partial, target)
            journal.unlink()
            return
        partial.unlink()
        journal.unlink()
    raise RunFailed(f"s3://{path}: its sha256 is {found}, the manifest says {digest}: the file was altered or cut")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
