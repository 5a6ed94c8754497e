"""The whole way over S3, with one request in ten spoiled, gives what it gives on a local disk, and leaks nothing."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill.storage.s3 import client as s3_client
from clipmill_jobs import reporting
from clipmill_jobs.__main__ import main
from faulty_s3 import ACCESS_KEY, BUCKET, SECRET_KEY, FaultyS3

ROWS = 600
MAKING = ("sample", "embed", "index", "search", "evaluate")
PROVING = ("verify", "verify index")


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyS3]:
    with FaultyS3(seed=1) as running:
        yield running


@pytest.fixture
def home(store: FaultyS3, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose whole disk is one folder, where also Ray keeps its logs."""
    ray_logs = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # names of sockets in it must stay short
    yield {**store.environment, "HOME": str(tmp_path), "RAY_TMPDIR": ray_logs, "TMPDIR": str(tmp_path)}
    shutil.rmtree(ray_logs, ignore_errors=True)


def whole_way(
    base: str, run: Callable[..., Any], wanted: tuple[str, ...], cluster: tuple[str, ...] = ()
) -> tuple[dict[str, Any], str]:
    """What each of the wanted commands printed, by its name, and all text that was printed; ``cluster`` are options that
    say where they work."""
    names = ("data", "embeddings", "index", "report")
    data, embeddings, index, report = (f"{base}/{name}" for name in names)
    commands = {
        "sample": ("sample", "--output", data, "--rows", ROWS, "--seed", 3),
        "embed": ("embed", "--input", data, "--output", embeddings, "--json", *cluster),
        "verify": ("verify", embeddings, "--json"),
        "index": ("index", "--embeddings", embeddings, "--output", index, "--json", *cluster),
        "search": ("search", "--index", index, "--text", "two green triangles", "--json"),
        "evaluate": ("evaluate", "--embeddings", embeddings, "--index", index, "--output", report, "--json"),
        "verify index": ("verify", index, "--json"),
    }
    documents, text = {}, []
    for name, command in commands.items():
        if name not in wanted:
            continue
        done = run(*command)
        assert done.code == 0, done.err
        text += [done.out, done.err]
        documents[name] = done.document if "--json" in command else None
    return documents, "".join(text)


def download(store: FaultyS3, folder: Path) -> Path:
    for key in store.listed():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.client.download_file(BUCKET, key, str(path))
    return folder


def table_of(folder: Path, part: str) -> tuple[pa.Table, np.ndarray]:
    table = pq.read_table(folder / "embeddings" / part)
    vectors = np.stack(table.column("embedding").to_pylist()).astype(np.float32)
    return table.drop_columns("embedding"), vectors


def figures(report: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {
        (part["direction"], figure["name"]): figure["value"]
        for part in report["retrieval"]
        for figure in part["figures"]
    }


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_the_whole_way_over_a_failing_store_is_the_whole_way(
    store: FaultyS3, home: dict[str, str], clipmill: Callable, tmp_path: Path
) -> None:
    store.share = 0.1
    base, wanted = f"s3://{BUCKET}/way", (*MAKING, *PROVING)
    there, printed = whole_way(base, lambda *command: clipmill(*command, **home), wanted, ("--address", "local"))
    store.share = 0.0
    assert store.faults.total() >= 15
    assert not [key for key in store.listed() if not key.startswith(("way/data", "way/emb", "way/index", "way/report"))]
    local, _ = whole_way(str(tmp_path / "local"), clipmill, MAKING)

    copy = download(store, tmp_path / "copy") / "way"
    for part in ("images", "captions"):
        (found, vectors), (expected, wanted) = table_of(copy, part), table_of(tmp_path / "local", part)
        assert found.drop_columns(set(found.column_names) & {"clip_score"}) == expected.drop_columns(
            set(expected.column_names) & {"clip_score"}
        )
        np.testing.assert_allclose(vectors, wanted, atol=1e-3)
    for name in ("counts", "model"):
        assert there["embed"][name] == local["embed"][name]
    for name in ("n", "factory", "dimension"):
        assert there["index"][name] == local["index"][name]
    assert [hit["id"] for hit in there["search"]["results"]] == [hit["id"] for hit in local["search"]["results"]]
    found, expected = figures(there["evaluate"]), figures(local["evaluate"])
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=2e-3)

    everything = [*bytes_below(copy), *bytes_below(Path(home["HOME"])), *bytes_below(Path(home["RAY_TMPDIR"]))]
    assert len(everything) > 30
    assert not [path for path, data in everything if SECRET_KEY.encode() in data or ACCESS_KEY.encode() in data]
    assert SECRET_KEY not in printed
    assert ACCESS_KEY not in printed

    verify = ("verify", f"s3://{BUCKET}/way/embeddings")
    store.forget_counts()
    assert clipmill(*verify, **home).code == 0
    without = store.requests.total()
    store.forget_counts()
    store.share = 0.4
    assert clipmill(*verify, **home).code == 0
    store.share = 0.0
    assert store.faults.total() >= 3
    assert store.requests.total() == without + store.faults.total()


def test_a_refusal_in_a_worker_is_told_as_one_at_home(
    store: FaultyS3, home: dict[str, str], clipmill: Callable
) -> None:
    assert clipmill("sample", "--output", f"s3://{BUCKET}/refused", "--rows", 20, **home).code == 0
    store.plan = lambda number, method, path: "403" if method == "PUT" and "/units/" in path else None
    places = ("--input", f"s3://{BUCKET}/refused", "--output", f"s3://{BUCKET}/never")
    done = clipmill("embed", *places, "--address", "local", **home)
    store.plan = None
    assert done.code == 2, done.err
    last = done.err.strip().splitlines()[-1]
    assert "access denied; ask for the permission s3:PutObject on s3://bucket/.never.staging/" in last
    assert not [key for key in store.listed() if key.startswith("never/")]


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "--output", "s3://bucket/new", "--rows", "10"),
        ("embed", "--input", "s3://bucket/data", "--output", "s3://bucket/new"),
        ("index", "--embeddings", "s3://bucket/data", "--output", "s3://bucket/new"),
        ("search", "--index", "s3://bucket/index", "--text", "a"),
        ("evaluate", "--embeddings", "s3://bucket/data", "--output", "s3://bucket/new"),
        ("verify", "s3://bucket/data"),
        ("import", "folder", "s3://bucket/pictures", "--output", "s3://bucket/new"),
        ("import", "vectors", "--images", "s3://bucket/a.npy", "--output", "s3://bucket/new"),
    ],
    ids=lambda command: " ".join(command[:2] if command[0] == "import" else command[:1]),
)
@pytest.mark.parametrize("kind", ["403", "expired", "no bucket", "no answer"])
def test_every_command_tells_a_refusal_in_one_sentence(
    kind: str, command: tuple[str, ...], store: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"403": "denied", "expired": "expired", "no bucket": "no bucket called nowhere", "no answer": "be reached"}
    monkeypatch.setattr(reporting, "_FIRST_WORD_SECONDS", 60)  # however slow the machine is
    for name, value in {**store.environment, "CLIPMILL_S3_PATIENCE": "0"}.items():
        monkeypatch.setenv(name, value)
    if kind == "no answer":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    if kind == "no bucket":
        command = tuple(part.replace("s3://bucket", "s3://nowhere") for part in command)
    s3_client.forget()
    store.plan = (lambda number, method, path: kind) if kind in ("403", "expired") else None
    done = CliRunner().invoke(main, command)
    store.plan = None
    assert done.exit_code == (1 if kind == "no answer" else 2), done.output
    lines = [line for line in done.stderr.strip().splitlines() if "%|" not in line]
    assert len(lines) == 1, lines
    assert "s3://" in lines[0]
    assert said[kind] in lines[0]
