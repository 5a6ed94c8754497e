"""An index that grows keeps its training while the vectors look alike, and the shards in which nothing changed."""

import os
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from clipmill.core.manifests import IndexManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import IndexSettings, OutputSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.datasets.shards import read_shards
from clipmill.index.build import plan as plan_module
from clipmill.index.build.build import Build, make_build
from clipmill.index.build.train import train_index
from clipmill.index.build.unfinished import Attempts, Trained, Unfinished, read_record, write_record
from clipmill.index.search.open import open_index
from clipmill.source.inputs import find_inputs
from clipmill.storage import resolve
from clipmill.verification.index import verify_index
from clipmill.versions import grow as grow_module
from clipmill.versions.changes import changes_since
from clipmill.versions.compose import Composition, compose
from clipmill.versions.drift import Drift, reconstruction_errors
from clipmill.versions.grow import grow, training_of
from clipmill.versions.takedown import Takedown
from clustered import image_and_caption_vectors, unit, write_embeddings
from indexing import run_here
from wholesome import identity, write_whole_embeddings

FACTORY = "IVF4,PQ4x4fsr"

NOTHING = Takedown()


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "SHARD_ROWS", 100)
    monkeypatch.setattr(grow_module, "SHARD_ROWS", 100)


def build_of(embeddings: Path, output: Path, **settings: object) -> Build:
    values = {"embeddings": str(embeddings), "output": str(output), "factory": FACTORY, "tuning_queries": 20}
    return make_build(IndexSettings.model_validate({**values, **settings}))


def faults(index: Path) -> list[str]:
    found = verify_index(str(index), quick=False, reporter=Silent())
    assert not found.unchecked
    return found.faults


def next_version(folder: Path, base: Path, removed: Takedown = NOTHING) -> Path:
    """Embeddings in ``folder`` that grow from those at ``base``."""
    opened = Embeddings.open(str(base))
    changes = changes_since(opened, find_inputs(str(folder / "source")))
    output = folder / "next/embeddings"
    compose(Composition(OutputSettings(output=str(output)), opened, None, changes, removed, identity(), {}))
    return output


def shared_files(one: Path, other: Path) -> set[str]:
    """Names at ``other`` that are files of ``one`` as well."""
    inodes = {os.stat(path).st_ino for path in one.iterdir()}
    return {path.name for path in other.iterdir() if os.stat(path).st_ino in inodes}


def grown_from(embeddings: Path, base_index: Path, base_build: Build, output: Path, **settings: object):
    training = training_of(base_build, resolve(base_index))
    build = build_of(embeddings, output, **settings)
    return grow(build, resolve(base_index), training, same_vectors=True)


def test_shards_in_which_nothing_changed_stay(tmp_path: Path) -> None:
    """135 + 0 + 190 images in four shards of 81 or 82; a takedown in the second of them."""
    base = write_whole_embeddings(tmp_path)
    base_build = build_of(base, tmp_path / "index")
    old = run_here(base_build)
    assert old.shards == 4
    embeddings = next_version(tmp_path, base, Takedown(frozenset({"a-102"})))
    output = tmp_path / "next/index"
    grown = grown_from(embeddings, tmp_path / "index", base_build, output)
    assert grown.reuses
    assert grown.notes[-1] == "3 of 4 shards are as they were"
    manifest = run_here(grown.build)
    assert faults(output) == []
    assert (manifest.n, manifest.shards, manifest.trained_sha256) == (324, 4, old.trained_sha256)
    assert (manifest.runs[-1].rows_encoded, manifest.runs[-1].rows_reused) == (80, 244)
    assert manifest.stage_seconds["train"] == 0
    assert "trained.faiss" in shared_files(tmp_path / "index", output)
    assert {name for name in shared_files(tmp_path / "index", output) if name.endswith(".faiss")} == {
        "trained.faiss",
        "shard-00000.faiss",
        "shard-00002.faiss",
        "shard-00003.faiss",
    }
    assert manifest.memory == old_memory_of(output)


def old_memory_of(index: Path) -> dict[str, int]:
    """What its shards keep resident, added up from the files."""
    from functools import reduce

    from clipmill.index.build.footprint import add_shard, measured_footprint

    parts = [measured_footprint(faiss.read_index(str(path))) for path in sorted(index.glob("shard-*.faiss"))]
    return reduce(add_shard, parts, None).as_dict()


def test_a_grown_index_finds_what_an_index_of_the_same_rows_finds(tmp_path: Path) -> None:
    base = write_whole_embeddings(tmp_path)
    base_build = build_of(base, tmp_path / "index")
    run_here(base_build)
    (tmp_path / "source/a.parquet").unlink()
    embeddings = next_version(tmp_path, base)
    grown = grown_from(embeddings, tmp_path / "index", base_build, tmp_path / "next/index")
    run_here(grown.build)
    assert faults(tmp_path / "next/index") == []
    index = open_index(str(tmp_path / "next/index"))
    assert index.n == 190
    dataset = Embeddings.open(str(embeddings))
    stored = np.concatenate(
        [np.stack(batch.column(1).to_numpy(False)) for batch in dataset.batches("images", ["row", "embedding"])]
    )
    queries = unit(np.random.default_rng(1).standard_normal((20, 16))).astype(np.float32)
    scores, positions = index.sharded.search(queries, 5, nprobe=4, rerank=190)
    exact = queries @ stored.astype(np.float32).T
    np.testing.assert_array_equal(positions, np.argsort(-exact, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :5], atol=1e-3)


def test_new_rows_fill_the_last_shard_before_another_is_begun(tmp_path: Path) -> None:
    images, captions = image_and_caption_vectors(400, 100, 16, seed=0)
    first = write_embeddings(tmp_path / "one", images[:250], captions, identity=identity())
    second = write_embeddings(tmp_path / "two", images, captions, identity=identity())
    base_build = build_of(first, tmp_path / "index")
    old = run_here(base_build)
    assert [file.rows for file in read_shards(resolve(tmp_path / "index"), old.shards_sha256)[::4]] == [83, 83, 84]
    grown = grown_from(second, tmp_path / "index", base_build, tmp_path / "next")
    assert [place.rows for place in grown.build.places] == [83, 83, 78, 78, 78]
    manifest = run_here(grown.build)
    assert faults(tmp_path / "next") == []
    assert manifest.runs[-1].rows_reused == 166


def test_small_shards_become_one(tmp_path: Path) -> None:
    """Ten shards of five vectors each, of which most went, between large ones that stay."""
    embeddings = write_whole_embeddings(tmp_path)
    base_build = replace(build_of(embeddings, tmp_path / "index"), cuts=(0, 100, *range(200, 250, 5), 250, 325))
    assert run_here(base_build).shards == 13
    grown = grown_from(embeddings, tmp_path / "index", base_build, tmp_path / "next")
    assert [place.rows for place in grown.build.places] == [100, 100, 50, 75]
    assert grown.notes[-1] == "3 of 4 shards are as they were"
    manifest = run_here(grown.build)
    assert faults(tmp_path / "next") == []
    assert manifest.runs[-1].rows_reused == 275


def test_a_number_of_shards_that_was_asked_for_is_kept_to(tmp_path: Path) -> None:
    images, captions = image_and_caption_vectors(300, 100, 16, seed=0)
    first = write_embeddings(tmp_path / "one", images[:250], captions, identity=identity())
    second = write_embeddings(tmp_path / "two", images, captions, identity=identity())
    base_build = build_of(first, tmp_path / "index", shards=2)
    old = run_here(base_build)
    grown = grown_from(second, tmp_path / "index", base_build, tmp_path / "next", shards=2)
    manifest = run_here(grown.build)
    assert faults(tmp_path / "next") == []
    assert (manifest.shards, manifest.trained_sha256) == (2, old.trained_sha256)


@pytest.mark.parametrize(
    ("settings", "same_vectors", "why"),
    [
        ({"factory": "IVF8,PQ4x4fsr"}, True, "300 vectors want IVF8,PQ4x4fsr, and there was IVF4,PQ4x4fsr"),
        ({"seed": 1}, True, "the seed was 0 and is 1"),
        ({"gallery": "captions"}, True, "the gallery was images and is captions"),
        ({}, False, "all vectors are new"),
    ],
)
def test_what_cannot_be_taken_over_is_trained_and_says_why(
    tmp_path: Path, settings: dict[str, object], same_vectors: bool, why: str
) -> None:
    images, captions = image_and_caption_vectors(300, 100, 16, seed=0)
    embeddings = write_embeddings(tmp_path / "one", images, captions, identity=identity())
    base_build = build_of(embeddings, tmp_path / "index")
    run_here(base_build)
    training = training_of(base_build, resolve(tmp_path / "index"))
    build = build_of(embeddings, tmp_path / "next", **settings)
    grown = grow(build, resolve(tmp_path / "index"), training, same_vectors=same_vectors)
    assert (grown.reuses, grown.notes) == (False, [f"the index is trained: {why}"])
    assert not (tmp_path / ".next.staging").exists()


def test_vectors_that_look_like_others_are_noticed(tmp_path: Path) -> None:
    """The same kind again is no drift; another kind is, in part of the gallery or in all of it."""
    images, captions = image_and_caption_vectors(1200, 100, 16, seed=0)
    others, _ = image_and_caption_vectors(600, 100, 16, seed=99)
    first = write_embeddings(tmp_path / "one", images[:600], captions, identity=identity())
    alike = write_embeddings(tmp_path / "two", images, captions, identity=identity())
    mixed = write_embeddings(tmp_path / "three", np.concatenate([images[:600], others]), captions, identity=identity())
    base_build = build_of(first, tmp_path / "index", factory="IVF16,PQ4x4fsr")
    run_here(base_build)
    settings = {"factory": "IVF16,PQ4x4fsr"}
    assert grown_from(alike, tmp_path / "index", base_build, tmp_path / "next-alike", **settings).reuses
    drifted = grown_from(mixed, tmp_path / "index", base_build, tmp_path / "next-mixed", **settings)
    assert not drifted.reuses
    assert "worse than when it was trained" in drifted.notes[0]
    assert "(10% worse is too much)" in drifted.notes[0]


@pytest.mark.parametrize("factory", ["IVF8,PQ4x4fsr", "OPQ4_16,IVF8,PQ4", "PCAR8,IVF8,PQ4x4fsr", "PCAR8,IVF8,SQ8"])
def test_the_error_is_what_the_centroid_and_the_projection_lose(factory: str) -> None:
    vectors = image_and_caption_vectors(600, 10, 16, seed=0)[0].astype(np.float32)
    index = train_index(factory, 16, vectors.astype(np.float16), seed=0)
    moved = vectors
    step = None
    if isinstance(index, faiss.IndexPreTransform):
        step = faiss.downcast_VectorTransform(index.chain.at(0))
        moved = step.apply(vectors)
    centroids = faiss.downcast_index(faiss.extract_index_ivf(index).quantizer).reconstruct_n(0, 8)
    filed = centroids[np.argmax(moved @ centroids.T, axis=1)]
    back = filed
    if step is not None:
        matrix = faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in)
        offset = faiss.vector_to_array(step.b) if step.have_bias else 0.0
        back = np.linalg.lstsq(matrix, (filed - offset).T, rcond=None)[0].T
    expected = [np.linalg.norm(vector - centre) ** 2 for vector, centre in zip(vectors, back, strict=True)]
    assert reconstruction_errors(index, vectors) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_an_index_without_lists_has_no_error() -> None:
    assert reconstruction_errors(faiss.IndexFlatIP(4), np.eye(4, dtype=np.float32)) is None


def test_a_few_new_rows_in_directions_that_were_dropped_are_noticed(tmp_path: Path) -> None:
    """Four of a hundred rows, which a mean over all of them hides, and which a projected distance does not see at all."""
    random = np.random.default_rng(0)
    known, _ = image_and_caption_vectors(1000, 100, 8, seed=0)
    images = np.zeros((1040, 16), np.float16)
    images[:1000, :8] = known
    images[1000:, 8:] = image_and_caption_vectors(40, 1, 8, seed=1)[0]
    captions = images[random.permutation(1000)[:100]]
    settings = {"factory": "PCAR8,IVF16,PQ4x4fsr"}
    first = write_embeddings(tmp_path / "one", images[:1000], captions, identity=identity())
    grown = write_embeddings(tmp_path / "two", images, captions, identity=identity())
    base_build = build_of(first, tmp_path / "index", **settings)
    run_here(base_build)
    drifted = grown_from(grown, tmp_path / "index", base_build, tmp_path / "next", **settings)
    assert not drifted.reuses
    assert "the 40 new ones that were looked at" in drifted.notes[0]


def test_a_training_of_0_1_0_is_judged_by_the_rows_of_its_time(tmp_path: Path) -> None:
    images, captions = image_and_caption_vectors(1200, 100, 16, seed=0)
    others, _ = image_and_caption_vectors(600, 100, 16, seed=99)
    settings = {"factory": "IVF16,PQ4x4fsr"}
    first = write_embeddings(tmp_path / "one", images[:600], captions, identity=identity())
    base_build = build_of(first, tmp_path / "index", **settings)
    run_here(base_build)
    training = training_of(base_build, resolve(tmp_path / "index")).model_copy(update={"error": None, "distance": 1e-9})
    for number, (more, reuses) in enumerate([(images[600:], True), (others, False)]):
        mixed = np.concatenate([images[:600], more])
        embeddings = write_embeddings(tmp_path / f"next{number}", mixed, captions, identity=identity())
        build = build_of(embeddings, tmp_path / f"index{number}", **settings)
        assert grow(build, resolve(tmp_path / "index"), training, same_vectors=True).reuses == reuses


def test_drift_in_numbers() -> None:
    assert Drift(0.5, 0.6).share == pytest.approx(0.2)
    assert Drift(0.5, 0.6).too_far
    assert not Drift(0.5, 0.54).too_far
    assert not Drift(0.5, 0.1).too_far
    assert not Drift(0.0, 0.0).too_far
    assert Drift(0.5, 0.5, 100, 0.7, 0.6).too_far
    assert not Drift(0.5, 0.5, 2, 0.7, 0.4).too_far, "two rows say little"


def test_an_altered_training_is_refused(tmp_path: Path) -> None:
    from clipmill.core.errors import RunFailed

    images, captions = image_and_caption_vectors(300, 100, 16, seed=0)
    embeddings = write_embeddings(tmp_path / "one", images, captions, identity=identity())
    base_build = build_of(embeddings, tmp_path / "index")
    run_here(base_build)
    training = training_of(base_build, resolve(tmp_path / "index"))
    with (tmp_path / "index/trained.faiss").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunFailed, match=r"trained.faiss was altered"):
        grow(build_of(embeddings, tmp_path / "next"), resolve(tmp_path / "index"), training, same_vectors=True)


def test_a_build_with_cuts_is_another_work_than_one_without(tmp_path: Path) -> None:
    embeddings = write_whole_embeddings(tmp_path)
    build = build_of(embeddings, tmp_path / "index")
    cut = replace(build, cuts=(0, 100, 325))
    assert [(place.start, place.stop) for place in cut.places] == [(0, 100), (100, 325)]
    assert cut.staging.token != build.staging.token
    assert isinstance(run_here(cut), IndexManifest)
    assert faults(tmp_path / "index") == []


def test_a_training_that_is_taken_over_is_of_the_kind_that_it_was_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that grew an index, missed the target and was killed has left word of the next kind; the next grows again."""
    monkeypatch.setattr(plan_module, "EXACT_COMPONENTS", 100)
    base = write_whole_embeddings(tmp_path)
    planned: dict[str, object] = {"factory": "auto", "target_recall": 0.5}
    base_build = build_of(base, tmp_path / "index", **planned)
    first = run_here(base_build)
    grown = grown_from(next_version(tmp_path, base), tmp_path / "index", base_build, tmp_path / "next/index", **planned)
    assert grown.reuses
    assert not grown.build.follows
    place = Unfinished(grown.build)
    write_record(place.attempts, Attempts(grown.build.attempt + 1, []))
    again = grown_from(tmp_path / "next/embeddings", tmp_path / "index", base_build, tmp_path / "next/index", **planned)
    assert not place.attempts.filesystem.get_file_info(place.attempts.path).is_file
    taken = read_record(place.trained, Trained)
    assert taken is not None
    assert taken.factory == first.factory == again.build.plan.factory
    made = run_here(again.build)
    assert (made.factory, made.trained_sha256) == (first.factory, first.trained_sha256)
    assert faults(tmp_path / "next/index") == []
