"""Vectors made elsewhere become an embeddings dataset: every pair kept together, every bad vector a reject."""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import ImportVectorsSettings
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings, vectors_of
from clipmill.source.importers import vectors as module
from clipmill.source.importers.vectors import import_vectors
from clipmill.stage.kinds import Kind
from clipmill.stage.stage import Made
from clipmill.stage.staging import Staging
from clipmill.storage.lease import Lease

PAIRS = Path(__file__).parents[2] / "../shared/data/fashion_clip_pairs"


def random(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def save(path: Path, array: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return str(path)


def bring(tmp_path: Path, **options: Any) -> Embeddings:
    output = str(tmp_path / "out")
    import_vectors(ImportVectorsSettings(output=output, **options), Silent())
    return Embeddings.open(output)


def part(dataset: Embeddings, name: str) -> pa.Table:
    tables = [dataset.open_shard(shard).read() for shard in dataset.shards_of(name)]
    return pa.concat_tables(tables)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pairs_are_normalised_scored_and_described(tmp_path: Path) -> None:
    images, texts = random(5) * 10, random(5, seed=1)
    with open(tmp_path / "m.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["key", "text", "width", "when"], *([f"k{i}", f"text {i}", i, "2024-01-05"] for i in range(5))]
        )
    dataset = bring(
        tmp_path,
        images=save(tmp_path / "i.npy", images),
        texts=save(tmp_path / "t.npy", texts.astype(np.float64)),
        metadata=str(tmp_path / "m.csv"),
    )
    stored, captions = part(dataset, "images"), part(dataset, "captions")
    assert np.abs(vectors_of(stored["embedding"]).astype(np.float32) - unit(images)).max() < 1e-3
    assert np.abs(vectors_of(captions["embedding"]).astype(np.float32) - unit(texts)).max() < 1e-3
    assert stored["row"].to_pylist() == captions["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert stored["id"].to_pylist() == captions["id"].to_pylist() == [f"k{i}" for i in range(5)]
    assert stored["source_width"].to_pylist() == [0, 1, 2, 3, 4]
    assert captions["caption"].to_pylist() == [f"text {i}" for i in range(5)]
    expected = (unit(images) * unit(texts)).sum(axis=1)
    assert np.abs(captions["clip_score"].to_numpy() - expected).max() < 2e-3
    assert stored["width"].null_count == 5
    assert dataset.manifest.model is None
    assert dataset.manifest.kept_columns == ["source_width", "when"]


def test_a_mapping_brings_texts_to_their_images_in_the_order_of_rows(tmp_path: Path) -> None:
    images, texts, of = random(4), random(6, seed=1), np.array([2, 0, 2, 3, 0, 2])
    table = pa.table({"caption": [f"text {i}" for i in range(6)], "colour": ["r", "g", "b", "c", "m", "y"]})
    pq.write_table(table, tmp_path / "m.parquet")
    dataset = bring(
        tmp_path,
        images=save(tmp_path / "i.npy", images),
        texts=save(tmp_path / "t.npy", texts),
        text_image=save(tmp_path / "of.npy", of),
        metadata=str(tmp_path / "m.parquet"),
    )
    captions = part(dataset, "captions")
    assert captions["row"].to_pylist() == [0, 0, 2, 2, 2, 3]
    assert captions["caption_index"].to_pylist() == [0, 1, 0, 1, 2, 0]
    assert captions["caption"].to_pylist() == [f"text {i}" for i in (1, 4, 0, 2, 5, 3)]
    expected = [float(unit(texts)[t] @ unit(images)[of[t]]) for t in (1, 4, 0, 2, 5, 3)]
    assert np.abs(captions["clip_score"].to_numpy() - expected).max() < 2e-3
    assert part(dataset, "images")["colour"].to_pylist() == ["g", None, "r", "c"]


@pytest.mark.parametrize("mapped", [False, True], ids=["texts in the order of images", "--text-image"])
@pytest.mark.parametrize("large", [False, True])
def test_images_have_several_captions_or_none_and_all_their_labels(tmp_path: Path, mapped: bool, large: bool) -> None:
    kind = pa.large_list(pa.large_string()) if large else pa.list_(pa.string())
    said = pa.array([["a", "b"], None, ["c"], [], ["d", None, "f"]], kind)
    table = pa.table({"caption": said, "label": ["x", "y", "z", None, "v"], "id": ["i", "j", "k", "l", "m"]})
    pq.write_table(table, tmp_path / "m.parquet")
    images, texts, of = random(5), random(6, seed=1), np.array([0, 0, 2, 4, 4, 4])
    order = np.array([3, 0, 4, 2, 1, 5]) if mapped else np.arange(6)
    options = {"text_image": save(tmp_path / "of.npy", of[order])} if mapped else {}
    dataset = bring(
        tmp_path,
        images=save(tmp_path / "i.npy", images),
        texts=save(tmp_path / "t.npy", texts[order]),
        metadata=str(tmp_path / "m.parquet"),
        **options,
    )
    stored, captions = part(dataset, "images"), part(dataset, "captions")
    assert stored.select(["id", "label"]).to_pylist() == table.select(["id", "label"]).to_pylist()
    assert captions["row"].to_pylist() == of.tolist()
    assert captions["caption_index"].to_pylist() == [0, 1, 0, 0, 1, 2]
    assert captions["id"].to_pylist() == ["i", "i", "k", "m", "m", "m"]
    # A caption belongs to the vector in the same place among those of its image.
    assert captions["caption"].to_pylist() == ["a", "b", "c", "d", None, "f"]
    own = np.concatenate([np.flatnonzero(of[order] == image) for image in range(5)])
    expected = unit(texts[order])[own]
    assert np.abs(vectors_of(captions["embedding"]).astype(np.float32) - expected).max() < 1e-3


def test_metadata_with_a_row_an_image_stays_with_the_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a", "b"], "id": [7, None]}), tmp_path / "m.parquet")
    dataset = bring(
        tmp_path,
        images=save(tmp_path / "i.npy", random(2)),
        texts=save(tmp_path / "t.npy", random(3)),
        text_image=save(tmp_path / "of.npy", np.array([1, 1, 0], np.uint8)),
        metadata=str(tmp_path / "m.parquet"),
    )
    assert part(dataset, "images").select(["id", "caption"]).to_pylist() == [
        {"id": "7", "caption": "a"},
        {"id": "i.npy:1", "caption": "b"},
    ]
    assert part(dataset, "captions")["caption"].to_pylist() == [None, None, None]


def test_folders_are_read_in_natural_order_and_rows_know_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(module, "ROWS_PER_FILE", 10)
    sizes = {0: 9, 1: 1, 2: 0, 10: 13}
    images, texts = random(23), random(23, seed=1)
    start = 0
    for number, size in sizes.items():
        save(tmp_path / f"img_emb/img_emb_{number}.npy", images[start : start + size])
        save(tmp_path / f"text_emb/text_emb_{number}.npy", texts[start : start + size].astype(np.float16))
        (tmp_path / "metadata").mkdir(exist_ok=True)
        names = [f"text {at}" for at in range(start, start + size)]
        pq.write_table(
            pa.table({"caption": pa.array(names, pa.string())}), tmp_path / f"metadata/metadata_{number}.parquet"
        )
        start += size
    dataset = bring(
        tmp_path,
        images=str(tmp_path / "img_emb"),
        texts=str(tmp_path / "text_emb"),
        metadata=str(tmp_path / "metadata"),
    )
    stored, captions = part(dataset, "images"), part(dataset, "captions")
    rows = [ordinal << 32 | row for ordinal, size in enumerate(sizes.values()) for row in range(size)]
    assert stored["row"].to_pylist() == captions["row"].to_pylist() == rows
    assert stored["id"].to_pylist()[9:11] == ["img_emb_1.npy:0", "img_emb_10.npy:0"]
    assert captions["caption"].to_pylist() == [f"text {at}" for at in range(23)]
    together = np.concatenate([vectors_of(chunk) for chunk in stored["embedding"].chunks]).astype(np.float32)
    assert np.abs(together - unit(images)).max() < 1e-3
    assert len(dataset.shards_of("images")) == 2
    inputs = pq.read_table(tmp_path / "out" / INPUTS_FILE).to_pylist()
    assert [(entry["rows"], entry["captions"]) for entry in inputs] == [(9, 9), (1, 1), (0, 0), (13, 13)]


def test_vectors_without_a_direction_are_rejects_in_the_order_of_rows(tmp_path: Path) -> None:
    images, texts = random(6), random(6, seed=1)
    images[1, 3], images[4] = np.nan, 0
    texts[0, 0], texts[4] = np.inf, 0
    dataset = bring(tmp_path, images=save(tmp_path / "i.npy", images), texts=save(tmp_path / "t.npy", texts))
    rejected = [(r["row"], r["kind"], r["caption_index"], r["reason"]) for r in part(dataset, "rejected").to_pylist()]
    assert rejected == [
        (0, "caption", 0, "non_finite_embedding"),
        (1, "image", None, "non_finite_embedding"),
        (4, "image", None, "non_finite_embedding"),
        (4, "caption", 0, "non_finite_embedding"),
    ]
    assert part(dataset, "images")["row"].to_pylist() == [0, 2, 3, 5]
    captions = part(dataset, "captions")
    assert captions["row"].to_pylist() == [1, 2, 3, 5]
    assert [score is None for score in captions["clip_score"].to_pylist()] == [True, False, False, False]
    counts = dataset.manifest.counts
    assert (counts.rows, counts.images, counts.captions, counts.rejected_images, counts.rejected_captions) == (
        6,
        4,
        4,
        2,
        2,
    )
    assert counts.rejected_by_reason == {"non_finite_embedding": 4}


def test_images_alone_have_empty_parts_that_can_be_read(tmp_path: Path) -> None:
    dataset = bring(tmp_path, images=save(tmp_path / "i.npy", random(3)))
    assert dataset.table("captions", ["row"]).num_rows == 0
    assert dataset.table("rejected", ["row"]).num_rows == 0
    assert dataset.manifest.counts.rejected_by_reason == {}


def test_embedding_columns_are_stored_plain(tmp_path: Path) -> None:
    dataset = bring(tmp_path, images=save(tmp_path / "i.npy", random(300)))
    (shard,) = dataset.shards_of("images")
    footer = pq.ParquetFile(tmp_path / "out" / shard.path).metadata.row_group(0)
    column = next(
        footer.column(at) for at in range(footer.num_columns) if "embedding" in footer.column(at).path_in_schema
    )
    assert column.compression == "UNCOMPRESSED"
    assert column.dictionary_page_offset is None


def test_the_same_again_is_complete_and_anything_else_differs(tmp_path: Path) -> None:
    images = save(tmp_path / "i.npy", random(3))
    settings = ImportVectorsSettings(images=images, output=str(tmp_path / "out"))
    first = import_vectors(settings, Silent())
    assert not first.already
    assert import_vectors(settings, Silent()) == Made(first.manifest, already=True)
    save(tmp_path / "i.npy", random(4))
    with pytest.raises(UserError, match="the files have changed"):
        import_vectors(settings, Silent())
    with pytest.raises(UserError, match="texts: was not given"):
        import_vectors(settings.model_copy(update={"texts": images}), Silent())
    again = import_vectors(settings.model_copy(update={"overwrite": True}), Silent())
    assert again.manifest.counts.images == 4


@pytest.mark.parametrize("size", [1e300, 1e-300, 5e-324])
def test_vectors_of_any_finite_length_have_a_direction_and_nothing_warns(tmp_path: Path, size: float) -> None:
    vectors = np.zeros((4, 8))
    vectors[0, [1, 5]] = size, -size
    vectors[1, 2] = size
    vectors[2, 3], vectors[3, 3] = np.nan, np.inf
    images = save(tmp_path / "i.npy", vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = bring(tmp_path, images=images, texts=images)
    stored, captions = part(dataset, "images"), part(dataset, "captions")
    expected = np.zeros((2, 8))
    expected[0, [1, 5]] = np.sqrt(0.5), -np.sqrt(0.5)
    expected[1, 2] = 1
    assert np.abs(vectors_of(stored["embedding"]).astype(np.float64) - expected).max() < 1e-3
    assert np.abs(captions["clip_score"].to_numpy() - 1).max() < 1e-3
    assert part(dataset, "rejected")["row"].to_pylist() == [2, 2, 3, 3]


def test_a_failing_import_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Kind, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        bring(tmp_path, images=save(tmp_path / "i.npy", random(3)))
    assert [path.name for path in tmp_path.iterdir()] == ["i.npy"]


def test_the_work_of_another_run_is_respected(tmp_path: Path) -> None:
    given = {"images": save(tmp_path / "i.npy", random(3))}
    staging = Staging(storage.resolve(tmp_path / "out"), {"inputs": "those of an embed run"})
    with Lease.acquire(storage.staging_of(staging.output)):
        staging.open()
        with pytest.raises(UserError, match=r"another run .* is working towards the same output"):
            bring(tmp_path, **given, overwrite=True)
    with pytest.raises(OutputDiffers, match="an unfinished run towards"):
        bring(tmp_path, **given)
    assert storage.exists(staging.folder / "plan.json")
    assert bring(tmp_path, **given, overwrite=True).count("images") == 3
    assert {path.name for path in tmp_path.iterdir()} == {"i.npy", "out"}


def mistakes(folder: Path) -> list[tuple[dict[str, str], str]]:
    good = save(folder / "good.npy", random(4))
    (folder / "cut.npy").write_bytes(Path(good).read_bytes()[:150])
    (folder / "text.npy").write_bytes(b"image,caption")
    (folder / "damaged.npy").write_bytes(Path(good).read_bytes().replace(b"{", b"(", 1))
    np.savez(folder / "several.npz", random(4))
    (folder / "none").mkdir()
    (folder / "m.csv").write_text("caption\na\nb\n")
    pq.write_table(pa.table({"caption": [["a"], ["b"], [], ["c"]]}), folder / "lists.parquet")
    save(folder / "mixed/0.npy", random(2, 8))
    save(folder / "mixed/1.npy", random(2, 4))
    return [
        ({"images": f"{folder}/absent.npy"}, "--images .*absent.npy: there is no such"),
        ({"images": f"{folder}/none"}, "no .npy file is among the 0 files"),
        ({"images": f"{folder}/cut.npy"}, "cut.npy: this is not a whole .npy"),
        ({"images": f"{folder}/text.npy"}, "text.npy: this is not a whole .npy"),
        ({"images": f"{folder}/several.npz"}, "several.npz: this is not .* is an .npz archive"),
        ({"images": f"{folder}/damaged.npy"}, "damaged.npy: this is not .*damaged"),
        ({"images": save(folder / "objects.npy", np.array([{}], object))}, "Python objects"),
        ({"images": save(folder / "flat.npy", np.ones(8, np.float32))}, r"float32 of shape \(8,\)"),
        ({"images": save(folder / "whole.npy", np.ones((2, 8), np.int32))}, "int32"),
        ({"images": save(folder / "no-rows.npy", np.ones((0, 8), np.float32))}, "not one vector"),
        ({"images": f"{folder}/mixed"}, "1.npy: vectors of 4 dimensions, but those of 0.npy have 8"),
        ({"images": good, "texts": save(folder / "wide.npy", random(4, 9))}, "9 dimensions and --images of 8"),
        ({"images": good, "texts": save(folder / "five.npy", random(5))}, "4 images and 5 texts.*--text-image"),
        ({"images": good, "text_image": good}, "there are no --texts"),
        ({"images": good, "texts": good, "text_image": good}, "float32 of shape"),
        (
            {"images": good, "texts": good, "text_image": save(folder / "high.npy", np.array([0, 1, 4, 2]))},
            "text 2 belongs to image 4, .* from 0 to 3",
        ),
        (
            {"images": good, "texts": good, "metadata": f"{folder}/m.csv"},
            "has 2 rows, but there are 4 images and 4 texts",
        ),
        (
            {"images": good, "texts": good, "metadata": f"{folder}/lists.parquet"},
            "lists 3 captions, and there are 4 texts",
        ),
        (
            {
                "images": good,
                "texts": save(folder / "three.npy", random(3)),
                "text_image": save(folder / "other.npy", np.array([0, 1, 1])),
                "metadata": f"{folder}/lists.parquet",
            },
            "lists 1 captions of image 1, but --text-image .* gives it 2",
        ),
        ({"images": good, "metadata": f"{folder}/text.npy"}, "cannot be read as Parquet"),
    ]


@pytest.mark.parametrize("number", range(20))
def test_mistakes_are_told(tmp_path: Path, number: int) -> None:
    options, said = mistakes(tmp_path)[number]
    with pytest.raises(UserError, match=f"(?s){said}") as caught:
        bring(tmp_path, **options)
    assert "pickle" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not PAIRS.exists(), reason="the vectors are not there")
def test_known_recalls_survive_rounding(tmp_path: Path) -> None:
    dataset = bring(
        tmp_path,
        images=str(PAIRS / "image_embeddings.npy"),
        texts=str(PAIRS / "text_embeddings.npy"),
        metadata=str(PAIRS / "metadata2.csv"),
    )
    images = vectors_of(part(dataset, "images")["embedding"]).astype(np.float32)
    texts = vectors_of(part(dataset, "captions")["embedding"]).astype(np.float32)
    scores = texts @ images.T
    own = np.diag(scores)[:, None]
    for matrix, expected in ((scores, (0.8046, 0.9698, 0.9920)), (scores.T, (0.7948, 0.9760, 0.9964))):
        better = (matrix > own).sum(axis=1)
        assert tuple(round(float((better < k).mean()), 4) for k in (1, 5, 10)) == expected
    assert part(dataset, "captions")["caption"][1].as_py().startswith("Black ribbed cotton vest top")
