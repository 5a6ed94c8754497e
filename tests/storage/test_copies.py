"""The cache stays within its limit, what was used longest ago goes first, and what is in use stays."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipmill import storage
from clipmill.core.errors import UserError
from clipmill.storage import copies
from clipmill.storage.s3 import client as s3_client
from clipmill.storage.s3.cache import cached
from clipmill_jobs.__main__ import main
from faulty_s3 import BUCKET, FaultyS3


def leave(cache: Path, name: str, size: int, ago: float) -> Path:
    """A copy of so many bytes that was last used so many seconds ago."""
    cache.mkdir(exist_ok=True)
    path = cache / f"{hashlib.sha256(name.encode()).hexdigest()}-{name}"
    path.write_bytes(bytes(size))
    then = time.time() - ago
    os.utime(path, (then, then))
    return path


def test_what_was_used_longest_ago_goes_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    old, older, new = (
        leave(tmp_path / "c", name, 100, ago) for name, ago in (("old", 5000), ("older", 9000), ("new", 1000))
    )
    assert [copy.path for copy in copies.copies_in(tmp_path / "c")] == [older, old, new]
    assert [copy.path for copy in copies.shrink(tmp_path / "c", 250)] == [older]
    assert [copy.path for copy in copies.shrink(tmp_path / "c", 100)] == [old]
    assert new.exists()


def test_what_is_in_use_stays_whatever_the_limit(tmp_path: Path) -> None:
    lately = leave(tmp_path / "c", "lately", 100, 5)
    assert copies.shrink(tmp_path / "c", 0) == []
    assert lately.exists()


def test_other_files_of_the_cache_are_none_of_its_copies(tmp_path: Path) -> None:
    for name in ("prompts", "identities"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    leave(tmp_path, "x", 1, 5000)
    assert len(copies.shrink(tmp_path, 0)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identities", "notes.txt", "prompts"]


def test_a_download_makes_room_and_a_use_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyS3() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        s3_client.forget()
        data = b"z" * 300
        store.client.put_object(Bucket=BUCKET, Key="shard", Body=data)
        used = leave(tmp_path / "c", "shard", 0, 5000)
        used.unlink()
        gone = leave(tmp_path / "c", "gone", 200, 9000)
        stays = leave(tmp_path / "c", "stays", 50, 8000)
        monkeypatch.setenv(copies.LIMIT_VARIABLE, "400")
        digest = hashlib.sha256(data).hexdigest()
        copy = cached(f"{BUCKET}/shard", tmp_path / "c", digest)
        assert (copy.exists(), gone.exists(), stays.exists()) == (True, False, True)
        os.utime(copy, (1.0, 1.0))
        assert cached(f"{BUCKET}/shard", tmp_path / "c", digest).stat().st_mtime > 1.0
    s3_client.forget()


def test_a_limit_that_is_no_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(copies.LIMIT_VARIABLE, "much")
    with pytest.raises(UserError, match="CLIPMILL_CACHE_LIMIT: 'much' is not a size"):
        copies.limit()


def test_the_command_lists_and_purges(tmp_path: Path) -> None:
    for name, ago in (("a", 100), ("b", 50)):
        leave(tmp_path / "c", name, 1000, ago)
    listed = CliRunner().invoke(main, ["cache", "list", "--cache", str(tmp_path / "c")])
    assert "2 copies, 2,000 bytes" in listed.output
    part = CliRunner().invoke(main, ["cache", "purge", "--cache", str(tmp_path / "c"), "--to", "1KB"])
    assert "1 copies were deleted, 1,000 bytes" in part.output
    whole = CliRunner().invoke(main, ["cache", "purge", "--cache", str(tmp_path / "c")])
    assert "1 copies were deleted" in whole.output
    wrong = CliRunner().invoke(main, ["cache", "purge", "--to", "much"])
    assert wrong.exit_code == 2
    assert not storage.list_files(storage.resolve(tmp_path / "c"))
