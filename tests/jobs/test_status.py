"""The status command: of work that goes on, was killed, or has finished, from what is on the storage."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clipmill import storage
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.index.build import steps
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.unfinished import find_progress
from clipmill.runs.summary import recorded
from clipmill.stage.outline import Outline, Step
from clipmill.stage.stage import Work
from clipmill.stage.staging import Staging
from clipmill.stage.status import work_towards
from clipmill.storage.lease import Lease
from clipmill.versions.place import Place
from clipmill.versions.unfinished import begin
from clipmill_jobs.status import command
from indexing import run_here


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def state(output: Path) -> dict[str, Any]:
    done = run(output, "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "embeddings"


@pytest.fixture
def staging(output: Path) -> Staging:
    """An embed run of 10,000 rows in 10 units, 4 of which make a shard: one shard is made and two units more are done."""
    cut = {"rows": 10_000, "units": "sha", "units a shard": 4}
    staging = Staging(storage.resolve(output), {"cut": cut, "model": {}})
    staging.open()
    files = {"units/*/*.arrow": 1, "shards/00002.json": 2, "shards/*.json": 4}
    step = Step(doing="embedding units of rows", total=10, files=files, replaced_by="shards/{}.json")
    staging.write_outline(Outline(stage="embed", unit="rows", amount=10_000, steps=(step,)))
    staging.note_start(2000)
    (Path(staging.folder.path) / "shards").mkdir()
    (Path(staging.folder.path) / "shards/00000.json").write_text("{}")
    for unit in (3, 4, 9):  # unit 3 is a leftover of the shard that is made
        file = Path(staging.folder.path) / f"units/{unit // 4:05d}/{unit:09d}.arrow"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return staging


@pytest.fixture
def at_work(staging: Staging) -> Iterator[Staging]:
    """The same, while this process works on it; the last unit came 20 seconds after the start."""
    file = Path(staging.folder.path) / "units/00002/000000009.arrow"
    started = json.loads((Path(staging.folder.path) / "runs.json").read_text())[-1]["started"]
    later = datetime.fromisoformat(started).timestamp() + 20
    os.utime(file, (later, later))
    with Lease.acquire(storage.staging_of(staging.output)):
        yield staging


def test_a_running_embed_tells_its_rate_and_the_time_that_is_left(at_work: Staging, output: Path) -> None:
    (work,) = work_towards(storage.resolve(output))
    assert work.running
    assert (work.done, work.planned) == (6000, 10_000)
    assert work.rate == pytest.approx((6000 - 2000) / 20, rel=0.01)
    assert work.seconds_left == pytest.approx(20.0, rel=0.01)
    done = run(output)
    assert done.exit_code == 0, done.output
    assert "running: 60% embed " in done.stdout
    assert "embedding units of rows: 6 of 10; 6,000 of 10,000 rows" in done.stdout
    assert f"process {os.getpid()}" in done.stdout
    assert "200.0 rows/s, about 20 s left" in done.stdout
    document = state(output)
    assert document["state"] == "running"
    (told,) = document["work"]
    assert (told["stage"], told["holder"]["process"]) == ("embed", os.getpid())


def test_a_killed_embed_is_stopped_and_says_how_to_go_on(staging: Staging, output: Path) -> None:
    with Lease.acquire(storage.staging_of(staging.output)):
        mark = output.parent / ".embeddings.staging.owner.json"
        left = {**json.loads(mark.read_text()), "process": 2**22 + 1, "token": "another"}
    mark.write_text(json.dumps(left))
    done = run(output)
    assert "stopped: 60% embed " in done.stdout
    assert "has exited" in done.stdout
    assert "run the same command again to continue" in done.stdout
    assert "left;" not in done.stdout
    assert state(output)["state"] == "unfinished"


def test_the_last_shard_counts_for_the_units_that_it_holds(staging: Staging, output: Path) -> None:
    (Path(staging.folder.path) / "shards/00002.json").write_text("{}")
    (work,) = work_towards(storage.resolve(output))
    assert (work.done, work.doing) == (7000, "embedding units of rows: 7 of 10")


def test_looking_changes_nothing(at_work: Staging, output: Path) -> None:
    def everything() -> dict[str, bytes]:
        files = [file for file in output.parent.rglob("*") if file.is_file()]
        return {str(file): file.read_bytes() for file in files}

    before = everything()
    state(output)
    assert everything() == before


@pytest.fixture
def build(clustered_embeddings: Callable[..., Embeddings], tmp_path: Path) -> Build:
    dataset = clustered_embeddings(2000, 300, 16)
    values = {"embeddings": dataset.location.uri, "output": str(tmp_path / "index"), "shards": 3, "tuning_queries": 50}
    return make_build(IndexSettings.model_validate(values))


def test_an_index_is_told_by_its_steps_and_then_by_its_recall(build: Build, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with Lease.acquire(storage.staging_of(build.output)) as lease:
        build.staging.open()
        build.staging.write_outline(build.outline)
        progress = find_progress(build, Work(build.staging, lease, build.outline, continued=True).start)
        assert "0% index" in run(index).stdout
        assert "training" in run(index).stdout
        trained = steps.train(build)
        data = steps.trained_bytes(build, trained)
        for place in progress.to_fill[:2]:
            steps.fill(build, place, data, trained)
        assert "running: 38% index" in run(index).stdout  # 3 of 8 steps
        assert "searching shards exactly: 0 of 3, filling shards: 2 of 3, tuning" in run(index).stdout
    assert run_here(build).n == 2000
    done = run(index)
    assert f"finished: {build.plan.factory} over 2,000 images in 3 shards, recall" in done.stdout
    document = state(index)
    assert document["state"] == "finished"
    assert document["work"] == []


def test_a_finished_dataset_is_told_by_its_manifest(clustered_embeddings: Callable[..., Embeddings]) -> None:
    dataset = clustered_embeddings(300, 200, 16)
    done = run(dataset.location.uri)
    assert done.exit_code == 0
    assert "finished: 300 images and 200 captions of 300 rows, 0 rejected" in done.stdout


def test_a_run_is_told_by_its_version_its_work_and_how_the_last_one_ended(tmp_path: Path) -> None:
    place = Place.of(str(tmp_path / "nightly"))
    with (
        pytest.raises(ZeroDivisionError),
        recorded(place.output, command="run", configuration="n.yaml", hook=None) as record,
        record.stage("embed"),
    ):
        raise ZeroDivisionError("by zero")
    version = begin(place, "0123456789", None)
    with Lease.acquire(place.run_lock):
        done = run(tmp_path / "nightly")
        assert state(tmp_path / "nightly")["state"] == "running"
    assert "published: nothing yet" in done.stdout
    assert f"running: process {os.getpid()}" in done.stdout
    assert f"being made: version {version.name}" in done.stdout
    assert "last run: failure (exit code 1)" in done.stdout
    assert "ZeroDivisionError: by zero" in done.stdout
    assert datetime.now(timezone.utc).strftime("%Y-%m-%d") in done.stdout


def test_a_place_where_nothing_is_is_a_mistake(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing")
    assert done.exit_code == 2
    assert "nothing was made there" in done.stderr
    assert "Traceback" not in done.output
