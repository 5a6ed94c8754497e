"""The files of a dataset against its lists: present, of the right size, unaltered, and no others."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline import storage
from pipeline.datasets import MANIFEST, Shard
from pipeline.storage import Location
from pipeline.verify.findings import Findings

_THREADS = 8


def check_files(
    location: Location,
    shards: Sequence[Shard],
    others: Iterable[str],
    findings: Findings,
    *,
    quick: bool,
    on_progress: Callable[[int], None],
) -> set[str]:
    """Reports missing, extra, truncated and (unless ``quick``) altered files; returns the paths of the sound ones."""
    present = {info.path[len(location.path.rstrip("/")) + 1 :]: info.size for info in storage.list_files(location)}
    expected = {shard.path for shard in shards} | set(others) | {MANIFEST}
    for path in sorted(expected - set(present)):
        findings.fault(f"{path} is missing")
    for path in sorted(set(present) - expected):
        findings.fault(f"{path} does not belong to the dataset")
    sound = set()
    digests: dict[str, str] = {}
    to_read = [shard for shard in shards if shard.path in present and present[shard.path] == shard.bytes]
    if not quick:
        with ThreadPoolExecutor(_THREADS) as pool:
            for shard, digest in zip(
                to_read, pool.map(lambda one: storage.sha256(location / one.path), to_read), strict=True
            ):
                digests[shard.path] = digest
                on_progress(shard.bytes)
    for shard in shards:
        size = present.get(shard.path)
        if size is None:
            continue
        findings.count("files", 1)
        if size != shard.bytes:
            findings.fault(f"{shard.path} has {size} bytes and should have {shard.bytes}: it was cut short or replaced")
        elif not quick and digests[shard.path] != shard.sha256:
            findings.fault(
                f"{shard.path} was altered: its sha256 is {digests[shard.path][:16]}…, not {shard.sha256[:16]}…"
            )
        else:
            sound.add(shard.path)
    return sound
