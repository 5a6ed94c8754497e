"""`clipmill run` with input and output on S3: two nights, two runs at once, and going back."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from clipmill.storage.s3 import client as s3_client
from clipmill_jobs.__main__ import main
from faulty_s3 import BUCKET, FaultyS3

OUTPUT = f"s3://{BUCKET}/nightly"
CONFIG = f"""\
output: {OUTPUT}
embed:
  input: s3://{BUCKET}/input
index:
  tuning_queries: 10
evaluate:
  bootstrap_samples: 20
  fidelity_queries: 10
  probe: false
gates:
  max_row_change: 30%
"""


@pytest.fixture(scope="module")
def store() -> Iterator[FaultyS3]:
    with FaultyS3() as running:
        yield running


@pytest.fixture(autouse=True)
def _home(store: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user whose whole disk is one folder, here and in the commands that are started."""
    ray_logs = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # names of sockets in it must stay short
    for name, value in {**store.environment, "HOME": str(tmp_path), "RAY_TMPDIR": ray_logs}.items():
        monkeypatch.setenv(name, value)
    s3_client.forget()
    yield
    s3_client.forget()
    shutil.rmtree(ray_logs, ignore_errors=True)


def here(*arguments: object) -> str:
    """What a command prints that ends well in this process."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


class Nightly:
    """What lies at the output."""

    def __init__(self, store: FaultyS3) -> None:
        self._store = store

    def document(self, key: str) -> dict[str, Any]:
        found = self._store.client.get_object(Bucket=BUCKET, Key=f"nightly/{key}")
        document: dict[str, Any] = json.loads(found["Body"].read())
        return document

    @property
    def current(self) -> str:
        return str(self.document("current.json")["version"])

    @property
    def version(self) -> dict[str, Any]:
        return self.document(f"runs/{self.current}/version.json")

    def etags(self, below: str = "") -> dict[str, str]:
        """Every object of ours by its name: which state of it that is."""
        prefix = f"nightly/{below}"
        pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {one["Key"].removeprefix(prefix): one["ETag"] for page in pages for one in page.get("Contents", ())}

    def owner(self) -> int | None:
        """The process that works there."""
        return self.document("run.owner.json")["process"] if "run.owner.json" in self.etags() else None


def add(store: FaultyS3, folder: Path, name: str, rows: int, seed: int) -> None:
    """Puts so many scenes into a file of the input."""
    here("sample", "--output", folder / name, "--rows", rows, "--seed", seed)
    (file,) = (folder / name).glob("**/*.parquet")
    store.client.upload_file(str(file), BUCKET, f"input/{name}.parquet")


def test_two_nights_on_s3(store: FaultyS3, clipmill: Callable, tmp_path: Path) -> None:
    nightly, config = Nightly(store), tmp_path / "nightly.yaml"
    config.write_text(CONFIG)
    add(store, tmp_path, "a", 40, seed=1)
    done = clipmill("run", config)
    assert done.code == 0, done.err
    first, was = nightly.current, nightly.version
    assert (was["rows_encoded"], was["rows_reused"], was["base"]) == (40, 0, None)
    assert nightly.document("summary.json")["status"] == "success"

    # the second night; while it is at work, another run leaves, and touches nothing
    add(store, tmp_path, "b", 10, seed=2)
    command = [sys.executable, "-m", "clipmill_jobs", "run", str(config)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while nightly.owner() != run.pid:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGSTOP)
    before = nightly.etags()
    leaves = clipmill("run", config)
    assert leaves.code == 2
    assert f"another run (process {run.pid} on " in leaves.err
    assert nightly.etags() == before, "the summary of the run before stays, too"
    os.kill(run.pid, signal.SIGCONT)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "10 of 50 rows encoded" in out
    assert "the index keeps its training" in out
    second, now = nightly.current, nightly.version
    assert (now["rows_encoded"], now["rows_reused"], now["base"]) == (10, 40, first)
    # what stayed is named where it is, and nothing of it is copied
    named = files_named(store, second)
    assert set(named.values()) == {first}
    assert named.keys() >= {f"images/{name}" for name in nightly.etags(f"runs/{first}/embeddings/images/")}
    assert not named.keys() & nightly.etags(f"runs/{second}/embeddings/").keys()

    # readers see it whole; what was planned by the first night lies beside the actual figures
    here("verify", OUTPUT)
    found = json.loads(here("search", "--index", OUTPUT, "--text", "a red circle", "-k", 3, "--json"))
    assert len(found["results"]) == 3
    planned = {figure["name"]: figure for figure in now["plan"]["figures"]}
    assert now["plan"]["basis"] == f"as version {first} took"
    assert planned["embedding_bytes"]["actual"] == sum(new_bytes(nightly, first, second, store))
    assert planned["embed_seconds"]["actual"] > 0
    assert nightly.document("summary.json")["figures"]["plan"] == now["plan"]
    assert nightly.document(f"runs/{second}/report/report.json")["plan"] == now["plan"]
    assert "time to embed: planned" in here("status", OUTPUT)

    # back to the first, by one object; and what is old goes
    before = nightly.etags()
    here("rollback", OUTPUT)
    after = nightly.etags()
    assert {key for key in before if before[key] != after.get(key)} == {"current.json"}
    assert after.keys() == before.keys()
    assert nightly.current == first
    here("rollback", OUTPUT, "--to", second)
    here("prune", OUTPUT, "--keep", 1)
    left = nightly.etags(f"runs/{first}/")
    assert left.keys() == {f"embeddings/{file}" for file in named}
    here("prune", OUTPUT, "--keep", 1)
    assert nightly.etags(f"runs/{first}/") == left
    here("verify", OUTPUT)
    assert json.loads(here("search", "--index", OUTPUT, "--text", "a red circle", "-k", 3, "--json")) == found
    listed = json.loads(here("versions", OUTPUT, "--json"))
    assert [version["name"] for version in listed["versions"]] == [second]
    assert clipmill("run", config).out.startswith("unchanged")


def files_named(store: FaultyS3, version: str) -> dict[str, str]:
    """Files of older versions that the embeddings of one name: whose each is."""
    found = store.client.get_object(Bucket=BUCKET, Key=f"nightly/runs/{version}/embeddings/shards.parquet")
    table = pq.read_table(io.BytesIO(found["Body"].read()))
    return {file["path"]: file["version"] for file in table.to_pylist() if file["version"] is not None}


def new_bytes(nightly: Nightly, first: str, second: str, store: FaultyS3) -> Iterator[int]:
    """Of the images and captions that the second version has and the first has not."""
    for part in ("images", "captions"):
        old = nightly.etags(f"runs/{first}/embeddings/{part}/")
        for key in nightly.etags(f"runs/{second}/embeddings/{part}/").keys() - old.keys():
            head = store.client.head_object(Bucket=BUCKET, Key=f"nightly/runs/{second}/embeddings/{part}/{key}")
            yield int(head["ContentLength"])
