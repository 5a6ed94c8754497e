"""One pass over a file: its bytes are hashed while they are read, and what was hashed is what is looked into."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from clipmill.datasets.shards import Shard
from clipmill.storage import Location
from clipmill.verification.findings import Findings

_CHUNK_BYTES = 8 << 20


@contextmanager
def fetched(
    dataset: Location, shard: Shard, scratch: Path, findings: Findings, advance: Callable[[int], None]
) -> Iterator[Path | None]:
    """A local path to a file of the dataset, hashed; None, with a fault, where it is not what the list says.

    A remote file is read once, into ``scratch``, and its copy is removed at the end of the block.
    """
    path = fetch(dataset, shard, scratch, findings, advance)
    try:
        yield path
    finally:
        forget(dataset, path)


def fetch(
    dataset: Location, shard: Shard, scratch: Path, findings: Findings, advance: Callable[[int], None]
) -> Path | None:
    """As `fetched`; the caller hands the path to `forget` when it is done with it."""
    location = shard.at(dataset)
    path = Path(location.path) if location.is_local else scratch / shard.name.replace("/", "-")
    digest = hashlib.sha256()
    piece = max(1, min(_CHUNK_BYTES, shard.bytes))  # all of it is allocated, however short the file
    try:
        with ExitStack() as stack:
            source = stack.enter_context(location.filesystem.open_input_stream(location.path))
            copy = None if location.is_local else stack.enter_context(open(path, "wb"))
            while chunk := source.read(piece):
                digest.update(chunk)
                if copy is not None:
                    copy.write(chunk)
                advance(len(chunk))
    except OSError as error:
        findings.fault(f"{shard.name} cannot be read: {str(error).splitlines()[0]}")
        forget(dataset, path)
        return None
    found = digest.hexdigest()
    if found != shard.sha256:
        findings.fault(f"{shard.name} was altered: its sha256 is {found[:16]}…, not {shard.sha256[:16]}…")
        forget(dataset, path)
        return None
    return path


def forget(dataset: Location, path: Path | None) -> None:
    """Removes a copy; a file of a local dataset stays."""
    if path is not None and not dataset.is_local:
        with suppress(OSError):
            path.unlink()
