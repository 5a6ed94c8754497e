"""Files of the Hugging Face hub, fetched whole and proved: what has another hash is not kept."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from clipmill.core.errors import RunFailed, UserError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 20


def files_of(repository: str, revision: str | None, wanted: Sequence[str]) -> list[str]:
    """The files of a repository whose names match one of these patterns, sorted. Raises as `fetch_file` does."""
    from huggingface_hub import HfApi

    with _told(repository):
        found = HfApi().list_repo_files(repository, revision=revision)
    return sorted(name for name in found if any(fnmatch(name, pattern) for pattern in wanted))


def fetch_file(repository: str, name: str, revision: str | None, tell: Callable[[str], object]) -> Path:
    """A file of a repository, from the cache where it is there, else downloaded; proved by the hash that the hub says.

    Raises UserError where there is no such repository or file, or it may not be read, and RunFailed where the download was
    interrupted, or has another hash (it is deleted).
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _told(repository, name):
        about = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
        tell(f"{repository}/{name}" + (f", {about.size:,} bytes" if about.size else ""))
        path = Path(hf_hub_download(repository, name, revision=revision))
    if about.etag and not _has_hash(path, about.etag):
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise RunFailed(
            f"{repository}/{name} came with another hash than the hub says ({about.etag[:12]}…), so it was deleted; type the "
            "same command again, and look at what stands between this machine and the hub if that happens twice"
        )
    return path


def _has_hash(path: Path, etag: str) -> bool:
    """Whether a file is the one of this ETag: its sha256, or of a small file git's hash. Another kind proves nothing."""
    if _SHA256.fullmatch(etag):
        digest = hashlib.sha256()
    elif _SHA1.fullmatch(etag):
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        return True
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == etag


@contextmanager
def _told(repository: str, name: str = "") -> Iterator[None]:
    """Failures of the hub in words."""
    from huggingface_hub import errors

    what = f"{repository}/{name}".rstrip("/")
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{repository} is given to those who have asked for it: ask on its page, and type: hf auth login"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise UserError(
            f"there is no model {repository} on the hub, or no such revision; type: clipmill models"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"there is no file {what} on the hub; type: clipmill models") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        raise UserError(_far_away(what)) from None
    except (OSError, RuntimeError, errors.HTTPError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).strip()[:200]
        if isinstance(error, ConnectionError) or "connect" in type(error).__name__.lower():
            raise UserError(_far_away(what)) from None
        raise RunFailed(
            f"the download of {what} was interrupted ({reason}); type the same command again; files that are "
            "here are not fetched again"
        ) from None


def _far_away(what: str) -> str:
    return (
        f"{what} is not on this machine, and the hub cannot be reached; on a machine that reaches it, type: clipmill models "
        "fetch NAME --output FOLDER, and bring the folder here"
    )
