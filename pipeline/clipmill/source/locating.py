"""Where source files are, by the paths that they are known by."""

from functools import lru_cache

import pyarrow.fs as fs

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.storage import Location


def locate(path: str) -> Location:
    """Where a file with this ``InputFile.path`` is. Raises UserError when there is no such bucket, asked once a process."""
    if not path.startswith("s3://"):
        return storage.resolve(path)
    inside = path.removeprefix("s3://")
    return Location(_bucket(inside.split("/", 1)[0]), inside, path)


@lru_cache(maxsize=64)
def _bucket(name: str) -> fs.FileSystem:
    filesystem = storage.resolve(f"s3://{name}").filesystem  # refuses what is no name first
    if storage.bucket_is_absent(name):
        raise UserError(
            f"s3://{name}: there is no bucket called {name}; create it, or correct the name or the endpoint"
        )
    return filesystem
