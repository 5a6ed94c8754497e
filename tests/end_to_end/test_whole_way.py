"""The whole way, from pictures to the report, on scenes, on real photographs and on vectors with a known truth."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

SCENES = 5000


@pytest.fixture(scope="module")
def demo(clipmill: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    done = clipmill("demo", "--output", folder / "out", "--rows", SCENES)
    assert done.code == 0, done.err
    return folder / "out", done.out


def figures(report: dict[str, Any], direction: str) -> dict[str, float]:
    part = next(part for part in report["retrieval"] if part["direction"] == direction)
    return {figure["name"]: figure["value"] for figure in part["figures"]}


def test_built_in_model_finds_scenes_it_never_saw(demo: tuple[Path, str], clipmill: Callable) -> None:
    folder, out = demo
    places = ("--embeddings", folder / "embeddings", "--index", folder / "index", "--output", folder / "report")
    report = clipmill("evaluate", *places, "--json").document
    found = figures(report, "t2i")
    ceiling = next(part["ceiling"] for part in report["retrieval"] if part["direction"] == "t2i")
    assert found["t2i_recall@1"] >= 0.5
    assert found["t2i_recall@10"] >= 0.95
    assert found["t2i_recall@1"] <= ceiling["1"]
    assert "report.html" in out
    page = (folder / "report/report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    elsewhere = re.sub(r'<a href="http://localhost:8000/[^"]*"', "", page.replace("http://www.w3.org/", ""))
    assert "http://" not in elsewhere, "nothing is fetched from anywhere"
    assert "https://" not in elsewhere


def test_demo_again_does_nothing_again(demo: tuple[Path, str], clipmill: Callable) -> None:
    folder, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert clipmill("demo", "--output", folder, "--rows", SCENES).code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_search_by_text_image_and_id_find_the_same_scene(
    demo: tuple[Path, str], clipmill: Callable, tmp_path: Path
) -> None:
    folder, _ = demo
    scene = pq.read_table(folder / "scenes/part-00000.parquet").slice(7, 1).to_pylist()[0]
    picture = tmp_path / "scene.jpg"
    picture.write_bytes(scene["image"]["bytes"])
    index = ("--index", folder / "index", "--json")
    by_id = clipmill("search", *index, "--id", scene["id"]).document["results"]
    by_image = clipmill("search", *index, "--image", picture).document["results"]
    by_text = clipmill("search", *index, "--text", scene["caption"][0]).document["results"]
    assert by_id[0]["id"] == by_image[0]["id"] == scene["id"]
    assert by_image[0]["score"] == pytest.approx(1, abs=2e-3)
    assert scene["id"] in [result["id"] for result in by_text]
    page = tmp_path / "results.html"
    assert clipmill("search", "--index", folder / "index", "--id", scene["id"], "--html", page).code == 0
    assert "data:image/jpeg" in page.read_text(encoding="utf-8")


def test_vectors_with_a_known_truth_give_it_to_four_digits(
    shared_data: Path, clipmill: Callable, tmp_path: Path
) -> None:
    pairs = shared_data / "fashion_clip_pairs"
    files = ("--images", pairs / "image_embeddings.npy", "--texts", pairs / "text_embeddings.npy")
    done = clipmill("import", "vectors", *files, "--metadata", pairs / "metadata2.csv", "--output", tmp_path / "pairs")
    assert done.code == 0, done.err
    assert clipmill("verify", tmp_path / "pairs").code == 0
    done = clipmill("evaluate", "--embeddings", tmp_path / "pairs", "--output", tmp_path / "report", "--json")
    assert done.code == 0, done.err
    expected = {"t2i": (0.8046, 0.9698, 0.9920), "i2t": (0.7948, 0.9760, 0.9964)}
    for direction, recalls in expected.items():
        found = figures(done.document, direction)
        assert tuple(round(found[f"{direction}_recall@{k}"], 4) for k in (1, 5, 10)) == recalls


def test_every_photograph_and_caption_is_accounted_for(shared_data: Path, clipmill: Callable, tmp_path: Path) -> None:
    source, rows = shared_data / "flickr8k/validation-00000-of-00001.parquet", 1000
    embeddings = tmp_path / "embeddings"
    done = clipmill("embed", "--input", source, "--output", embeddings, "--limit", rows, "--json")
    assert done.code == 0, done.err
    counts = done.document["counts"]
    assert (counts["rows"], counts["images"], counts["captions"]) == (rows, rows, 5 * rows)
    assert clipmill("verify", embeddings).code == 0
    captions = pq.read_table(embeddings / "captions", columns=["row", "caption"]).to_pylist()
    wanted = pq.read_table(source, columns=["caption"]).slice(0, rows).column("caption").to_pylist()
    assert [(row["row"], row["caption"]) for row in captions] == [
        (row, caption) for row, texts in enumerate(wanted) for caption in texts
    ]
    assert clipmill("index", "--embeddings", embeddings, "--output", tmp_path / "index").code == 0
    places = ("--embeddings", embeddings, "--index", tmp_path / "index", "--output", tmp_path / "report")
    report = clipmill("evaluate", *places, "--json").document
    assert {part["direction"]: part["queries"] for part in report["retrieval"]} == {"t2i": 5 * rows, "i2t": rows}
    found = clipmill("search", "--index", tmp_path / "index", "--text", "a dog runs on the beach", "--json")
    assert len(found.document["results"]) == 10
    vectors = np.stack(pq.read_table(embeddings / "images").column("embedding").to_pylist()).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
