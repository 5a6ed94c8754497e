"""A finished folder put in the place of another on S3, so that of two runs one wins and the other is told."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as fs

from clipmill.core.errors import RunFailed
from clipmill.storage.s3.client import CONNECTIONS
from clipmill.storage.s3.filesystem import delete_objects
from clipmill.storage.s3.requests import head, split, version_of
from clipmill.storage.s3.transfer import copy, get, put_if

_COPY_THREADS = CONNECTIONS // 2
_LARGEST_PUT = 256 << 20
_TABLES = ("listing.parquet", "inputs.parquet", "shards.parquet")


def publish_by_copy(
    made: Sequence[fs.FileInfo], old: Sequence[fs.FileInfo], staging: str, output: str, last: str
) -> None:
    """Copies ``made``, the files below ``staging``, to ``output``; what is ``old`` there and not made again is deleted.

    The tables that a manifest refers to, then ``last``, are written at the end, each only if what is there is what was
    there at the beginning. They are always written in the same order, so of runs that began before any of them wrote,
    the one that writes the first table publishes; one that began while another wrote finds the rest changed. The
    others raise RunFailed and leave tables and manifest as they are. (Parts are named after the plan that made them; the
    files of an index are not.)
    """
    sizes = {info.path: info.size for info in made}
    if f"{staging}/{last}" not in sizes:
        raise RunFailed(f"s3://{staging}/{last} is gone, so nothing is published; run the same command again")
    target_of = _targets(staging, output)
    closing = [path for name in (*_TABLES, last) if (path := f"{staging}/{name}") in sizes]
    there = {info.path for info in old}
    seen = {path: _version(target_of(path)) if target_of(path) in there else None for path in closing}

    with ThreadPoolExecutor(_COPY_THREADS) as pool:
        try:
            others = (path for path in sizes if path not in seen)
            list(pool.map(lambda path: copy(path, target_of(path), sizes[path]), others))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    overtaken = RunFailed(
        f"s3://{output}: another run published here while this one was publishing, and its dataset stays; check it with "
        "`clipmill verify`, and run one of the two again with --overwrite if it is not what you want"
    )
    for path in closing:
        if sizes[path] > _LARGEST_PUT:  # which cannot be put under a condition
            if _version(target_of(path)) != seen[path]:
                raise overtaken
            copy(path, target_of(path), sizes[path])
        elif put_if(target_of(path), get(path)[0], seen[path]) is None:
            raise overtaken
    kept = {target_of(path) for path in sizes}
    bucket = split(output)[0]
    delete_objects(bucket, [split(info.path)[1] for info in old if info.path not in kept])


def _targets(staging: str, output: str) -> Callable[[str], str]:
    return lambda path: output + path[len(staging) :]


def _version(path: str) -> str | None:
    found = head(path)
    return None if found is None else version_of(found)
