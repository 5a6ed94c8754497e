"""An index whose making was stopped is continued: nothing is trained or filled twice, and nothing of it is lost."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import OutputDiffers, RunFailed
from clipmill.core.manifests import IndexManifest
from clipmill.core.settings import IndexSettings
from clipmill.datasets.manifests import Embeddings, read_manifest
from clipmill.index.build import plan, steps
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.finish import finish_index
from clipmill.index.build.unfinished import Progress, Tuned, Unfinished, find_progress
from clipmill.index.search.open import open_index
from clipmill.stage.checkpoints import load, save
from clipmill.stage.stage import Work
from clipmill.storage import resolve
from clipmill.storage.lease import Lease
from clustered import image_and_caption_vectors, write_embeddings
from dying import dying
from indexing import make_here, run_here

ROWS, SHARDS = 900, 3
MARK = ".index.staging.owner.json"
"""Says who is at work on an output; of one that died nobody minds it."""


@pytest.fixture(scope="module")
def dataset(clustered_embeddings: Callable[..., Embeddings]) -> Embeddings:
    return clustered_embeddings(ROWS, 120, row_group_size=200)


def build(dataset: Embeddings, output: Path, **settings: Any) -> Build:
    values = {"factory": "IVF8,PQ4x4fsr", "shards": SHARDS, "tuning_queries": 50, **settings}
    return make_build(IndexSettings(embeddings=dataset.location.uri, output=str(output), **values))


def open_build(build: Build) -> Progress:
    """What is left to do of a build, whose staging folder is there then."""
    with Lease.acquire(storage.staging_of(build.output)) as lease:
        build.staging.open()
        return find_progress(build, Work(build.staging, lease, build.outline, continued=True).start)


@pytest.fixture(scope="module")
def uninterrupted(dataset: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("reference") / "index"
    run_here(build(dataset, output))
    return output


def made(output: Path) -> list[dict[str, Any]]:
    """What the index consists of: every file with its sha256, and the training it comes from."""
    return [{"trained": manifest(output).trained_sha256}, *pq.read_table(output / "shards.parquet").to_pylist()]


def manifest(output: Path) -> IndexManifest:
    return read_manifest(resolve(output), IndexManifest)


class Counted:
    """How often each step did its work."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.trainings = 0
        self.filled: list[int] = []
        self.searched = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counts = Counted()
    train, fill, search = steps.train_index, steps.fill_shard, steps.exact_top_k

    def train_counted(*arguments: Any) -> Any:
        counts.trainings += 1
        return train(*arguments)

    def fill_counted(gallery: Any, place: Any, *others: Any, **options: Any) -> Any:
        filled = fill(gallery, place, *others, **options)
        counts.filled.append(place.number)
        return filled

    def search_counted(*arguments: Any) -> Any:
        counts.searched += 1
        return search(*arguments)

    monkeypatch.setattr(steps, "train_index", train_counted)
    monkeypatch.setattr(steps, "fill_shard", fill_counted)
    monkeypatch.setattr(steps, "exact_top_k", search_counted)
    return counts


def stop_when(there: str, dataset: Embeddings, output: Path, **settings: Any) -> Path:
    """Dies as soon as a file of this name is in the staging folder, which it returns."""
    work = build(dataset, output, **settings)
    folder = Path(work.staging.folder.path)
    with dying(lambda _: bool(list(folder.glob(there)))) as died:
        run_here(work)
    assert died(), "it was finished before"
    return folder


def test_it_may_die_at_any_instant(dataset: Embeddings, uninterrupted: Path, counted: Counted, tmp_path: Path) -> None:
    for instant in itertools.count():
        output = tmp_path / f"{instant}" / "index"
        work = build(dataset, output)
        folder = Path(work.staging.folder.path)
        with dying(lambda asked, instant=instant: asked == instant) as died:
            run_here(work)
        if not died():
            break
        was_trained = (folder / "trained.json").exists()
        filled_before = {int(path.stem) for path in folder.glob("shards/*.json")}
        searched_before = len(list(folder.glob("truths/*.npz")))
        counted.forget()
        if work.finished() is None:
            run_here(build(dataset, output))
            assert counted.trainings == (0 if was_trained else 1)
            assert counted.filled == sorted(set(range(SHARDS)) - filled_before)
            assert counted.searched == SHARDS - searched_before
            runs = manifest(output).runs
            assert sum(run.rows_encoded for run in runs) == ROWS
            assert runs[-1].rows_encoded == ROWS // SHARDS * (SHARDS - len(filled_before))
        else:
            assert make_here(build(dataset, output)).already
            assert counted.trainings == 0
        assert made(output) == made(uninterrupted)
        assert {path.name for path in output.iterdir()} == {path.name for path in uninterrupted.iterdir()}
        assert {path.name for path in output.parent.iterdir() if not path.name.startswith(MARK)} == {"index"}
        shutil.rmtree(output.parent)
    assert instant > 60


def test_a_step_that_is_tried_again_finds_what_it_did(dataset: Embeddings, counted: Counted, tmp_path: Path) -> None:
    work = build(dataset, tmp_path / "index")
    progress = open_build(work)
    for _ in range(2):
        steps.draw(work)
        trained = steps.train(work)
        for place in progress.to_fill:
            steps.search_exactly(work, place)
            steps.fill(work, place, steps.trained_bytes(work, trained), trained)
        steps.tune(work, trained)
    assert (counted.trainings, counted.filled, counted.searched) == (1, [0, 1, 2], SHARDS)


def test_a_worker_of_another_training_that_comes_late_is_noticed(dataset: Embeddings, tmp_path: Path) -> None:
    work = build(dataset, tmp_path / "index")
    progress = open_build(work)
    steps.draw(work)
    trained = steps.train(work)
    data = steps.trained_bytes(work, trained)
    for place in progress.to_fill:
        steps.search_exactly(work, place)
        steps.fill(work, place, data, trained)
    steps.fill(work, work.places[1], data, replace(trained, sha256="0" * 64))
    with pytest.raises(RunFailed, match=r"1 shards .* of another training; run the same command again"):
        steps.tune(work, trained)


def test_a_shard_that_lost_a_file_is_filled_again_and_no_other(
    dataset: Embeddings, uninterrupted: Path, counted: Counted, tmp_path: Path
) -> None:
    output = tmp_path / "index"
    folder = stop_when("shards/00002.json", dataset, output)
    cut = folder / "dataset" / "vectors-00001.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    counted.forget()
    run_here(build(dataset, output))
    assert (counted.trainings, counted.filled) == (0, [1])
    assert made(output) == made(uninterrupted)


def test_shards_of_another_training_are_not_used(dataset: Embeddings, counted: Counted, tmp_path: Path) -> None:
    output = tmp_path / "index"
    folder = stop_when("shards/00002.json", dataset, output)
    altered = folder / "dataset" / "trained.faiss"
    altered.write_bytes(altered.read_bytes()[:-1])
    counted.forget()
    run_here(build(dataset, output))
    assert (counted.trainings, counted.filled) == (1, [0, 1, 2])
    assert open_index(str(output)).n == ROWS


@pytest.mark.parametrize("name", ["truths/00001.npz", "queries.npz"])
def test_a_damaged_result_is_made_anew_by_the_next_start(
    name: str, dataset: Embeddings, counted: Counted, tmp_path: Path
) -> None:
    work = build(dataset, tmp_path / "index")
    progress = open_build(work)
    steps.draw(work)
    trained = steps.train(work)
    for place in progress.to_fill:
        steps.search_exactly(work, place)
        steps.fill(work, place, steps.trained_bytes(work, trained), trained)
    damaged = Path((work.staging.folder / name).path)
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(RunFailed, match=f"{name} is gone or damaged; run the same command again"):
        steps.tune(work, trained)
    counted.forget()
    run_here(build(dataset, tmp_path / "index"))
    assert (counted.trainings, counted.filled) == (0, [])
    assert counted.searched == (1 if name.startswith("truths") else SHARDS)


@pytest.mark.parametrize("altered", ["the training", "the operating point"])
def test_what_comes_of_two_trainings_is_not_published(altered: str, dataset: Embeddings, tmp_path: Path) -> None:
    work = build(dataset, tmp_path / "index")
    progress = open_build(work)
    steps.draw(work)
    trained = steps.train(work)
    for place in progress.to_fill:
        steps.search_exactly(work, place)
        steps.fill(work, place, steps.trained_bytes(work, trained), trained)
    steps.tune(work, trained)
    if altered == "the training":
        storage.write_bytes(work.staging.dataset / "trained.faiss", b"another")
    else:
        operation = Unfinished(work).operation
        save(operation, replace(load(operation, Tuned), trained_sha256="0" * 64))
    with pytest.raises(RunFailed, match=r"trained\.faiss is gone, or not of the training"):
        finish_index(work, progress, trained, {})
    assert not (tmp_path / "index").exists()
    run_here(build(dataset, tmp_path / "index"))
    assert open_index(str(tmp_path / "index")).n == ROWS


def test_a_query_transform_of_another_training_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a worker leaves that was taken for dead, and ends between its two files."""
    monkeypatch.setattr(plan, "EXACT_COMPONENTS", 0)
    folder = write_embeddings(tmp_path / "embeddings", *image_and_caption_vectors(2000, 1200, 256, seed=1))
    work = build(Embeddings.open(str(folder)), tmp_path / "index", factory="auto", tuning_queries=300, memory="700KB")
    progress = open_build(work)
    steps.draw(work)
    trained = steps.train(work)
    assert trained.query_transform is not None
    for place in progress.to_fill:
        steps.search_exactly(work, place)
        steps.fill(work, place, steps.trained_bytes(work, trained), trained)
    steps.tune(work, trained)
    storage.write_bytes(work.staging.dataset / "query_transform.npy", b"another")
    with pytest.raises(RunFailed, match=r"query_transform\.npy is gone, or not of the training"):
        finish_index(work, progress, trained, {})
    assert not (tmp_path / "index").exists()


def test_a_run_that_lost_its_mark_does_not_publish(dataset: Embeddings, tmp_path: Path) -> None:
    work = build(dataset, tmp_path / "index", factory="Flat")

    def lost() -> None:
        assert (Path(work.staging.dataset.path) / "manifest.json").exists()
        raise RunFailed("another run took over")

    with dying(lambda _: False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lease, "check", lambda self: lost())
        with pytest.raises(RunFailed, match="took over"):
            run_here(work)
    assert not (tmp_path / "index").exists()


def test_queries_that_are_lost_are_searched_again(dataset: Embeddings, counted: Counted, tmp_path: Path) -> None:
    output = tmp_path / "index"
    folder = stop_when("shards/00000.json", dataset, output)
    (folder / "queries.npz").unlink()
    counted.forget()
    run_here(build(dataset, output))
    assert counted.searched == SHARDS
    assert manifest(output).operating_point.recall.n == 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target_recall": 0.5}, r"configuration \(target_recall: 0.95, now 0.5\)"),
        ({"shards": 2}, r"plan \(shards: 3, now 2\)"),
        ({"gallery": "captions", "factory": "Flat"}, "gallery: images, now captions"),
    ],
)
def test_unfinished_work_of_another_index_is_refused_and_dropped_only_when_asked(
    change: dict[str, Any], said: str, dataset: Embeddings, tmp_path: Path
) -> None:
    output = tmp_path / "index"
    folder = stop_when("shards/00000.json", dataset, output)
    before = sorted(folder.rglob("*"))
    with pytest.raises(OutputDiffers, match=said):
        run_here(build(dataset, output, **change))
    assert sorted(folder.rglob("*")) == before
    run_here(build(dataset, output, **change, overwrite=True))
    assert manifest(output).runs[0].rows_reused == 0
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_other_embeddings_at_the_same_place_are_noticed(
    dataset: Embeddings, clustered_embeddings: Callable[..., Embeddings], tmp_path: Path
) -> None:
    output = tmp_path / "index"
    stop_when("trained.json", dataset, output)
    other = clustered_embeddings(ROWS, 120, seed=1)
    with pytest.raises(OutputDiffers, match="other embeddings;"):
        run_here(build(other, output))


def test_halves_of_killed_writers_are_not_published(dataset: Embeddings, uninterrupted: Path, tmp_path: Path) -> None:
    output = tmp_path / "index"
    stop_when("dataset/shard-*.tmp", dataset, output)
    run_here(build(dataset, output))
    assert {path.name for path in output.iterdir()} == {path.name for path in uninterrupted.iterdir()}


def test_an_index_that_is_replaced_stays_until_the_new_one_is_whole(dataset: Embeddings, tmp_path: Path) -> None:
    output, retired = tmp_path / "index", tmp_path / ".index.retired"
    run_here(build(dataset, output, factory="Flat"))
    seen = []

    def look(_: int) -> bool:
        seen.append(open_index(str(output if output.exists() else retired)).manifest.factory)
        return False

    with dying(look):
        run_here(build(dataset, output, overwrite=True))
    assert set(seen) == {"Flat", "IVF8,PQ4x4fsr"}
