"""`clipmill search` answers by text, image, id and file, and refuses what it cannot compare."""

import base64
import html
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipmill.core.schemas import SEARCH_RESULTS
from clipmill.core.settings import ModelSettings
from clipmill.datasets.manifests import Embeddings
from clipmill.encoders.model import ClipModel, load_model
from clipmill.index.search.open import open_index
from clipmill.index.search.search import Index
from clipmill.source.decode import decode_image
from clipmill_jobs.search import command
from clustered import write_embeddings
from html_page import Page

HOSTILE = '<script>alert("x")</script>\x1b[2J'
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (250, 250, 250)]


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return load_model(ModelSettings(), device="cpu")


@pytest.fixture(scope="module")
def index(
    model: ClipModel, indexed: Callable[..., Index], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, np.ndarray]:
    """An index of five plain pictures, embedded by the built-in model, and their vectors."""
    pixels = np.stack([model.preprocessing.prepare(decode_image(png(colour), 10_000)).numpy() for colour in COLOURS])
    vectors = model.encode_images(pixels)
    captions = model.encode_texts([f"caption {number}" for number in range(5)]).astype(np.float16)
    dataset = write_embeddings(
        tmp_path_factory.mktemp("pictures"),
        vectors.astype(np.float16),
        captions,
        files=2,
        labels=["red", "green", HOSTILE, "yellow", "white"],
        thumbnails=[png(colour) for colour in COLOURS],
        identity=model.identity,
    )
    opened = indexed(Embeddings.open(str(dataset)))
    return str(Path(opened.table.paths[0]).parent), vectors


def search(index: str, *options: object) -> Result:
    return CliRunner().invoke(command, ["--index", index, *(str(option) for option in options)])


def test_a_text_finds_the_rows_in_the_order_of_their_cosine(index: tuple[str, np.ndarray], model: ClipModel) -> None:
    result = search(index[0], "--text", "a red circle", "-k", 3, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["results"]
    cosines = index[1] @ model.encode_texts(["a red circle"])[0]
    assert [record["row"] for record in found] == np.argsort(-cosines)[:3].tolist()
    assert [record["score"] for record in found] == pytest.approx(np.sort(cosines)[::-1][:3], abs=2e-3)
    assert [record["rank"] for record in found] == [1, 2, 3]
    assert found[0].keys() == {"rank", "score", "row", "id", "label"}


def test_a_condition_narrows_what_is_found(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    result = search(index[0], "--text", "a circle", "--where", "label in ('red', 'white')", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert {record["label"] for record in document["results"]} == {"red", "white"}
    assert (document["where"], document["rows_selected"]) == ("label in ('red', 'white')", 2)
    assert "2 of 5 rows meet --where" in result.stderr
    np.save(tmp_path / "queries.npy", index[1])
    output = tmp_path / "results.parquet"
    assert (
        search(index[0], "--queries", tmp_path / "queries.npy", "--output", output, "--where", "row > 2").exit_code == 0
    )
    assert set(pq.read_table(output).column("row").to_pylist()) == {3, 4}
    assert "nothing was found" in search(index[0], "--id", "image-1", "--where", "row < 0").output
    mistake = search(index[0], "--id", "image-1", "--where", "year > 1")
    assert mistake.exit_code == 2
    assert "--where 'year > 1': there is no column 'year'" in mistake.stderr


def test_an_image_finds_itself_first(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "yellow.png").write_bytes(png(COLOURS[3]))
    found = json.loads(search(index[0], "--image", tmp_path / "yellow.png", "--json").stdout)["results"]
    assert found[0]["id"] == "image-3"
    assert found[0]["score"] == pytest.approx(1, abs=2e-3)


def test_an_id_finds_itself_first_and_the_table_holds_no_control_characters(index: tuple[str, np.ndarray]) -> None:
    result = search(index[0], "--id", "image-2", "-k", 2)
    lines = result.output.splitlines()
    assert lines[0].split() == ["rank", "score", "id", "label"]
    assert "image-2" in lines[1]
    assert "\x1b" not in result.output


def test_the_page_shows_pictures_and_escapes_what_it_is_given(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert search(index[0], "--text", "<b>bold</b>", "--html", page).exit_code == 0
    written = page.read_text()
    assert written.count("data:image/png;base64,") == 5
    assert len(re.findall("<script[ >]", written)) == written.count("</script>") == 2
    assert 'alert("x")' not in written
    assert html.escape('<script>alert("x")</script>', quote=False).replace('"', "&#34;") in written
    assert "<b>bold</b>" not in written
    assert "http://" not in written
    assert "https://" not in written


def test_the_page_says_what_was_asked_of_what(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    image, page = tmp_path / "it's red.png", tmp_path / "page.html"
    image.write_bytes(png(COLOURS[0]))
    assert search(index[0], "--image", image, "-k", 3, "--html", page).exit_code == 0
    content = Page(page.read_text())
    (shown,) = [dict(found) for tag, found in content.tags if tag == "img" and "searched with" in found["alt"]]
    picture = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2]))).convert("RGB")
    assert np.abs(np.subtract(picture.getpixel((picture.width // 2, picture.height // 2)), COLOURS[0])).max() < 8
    text = " ".join(" ".join(content.text).split())
    model = open_index(index[0], tmp_path).manifest.model
    for told in (f"Index {index[0]}", f"Model {model.name}", "Found 3 of", str(datetime.now(timezone.utc).year)):
        assert told in text
    command = ["clipmill", "search", "--index", index[0], "--image", str(image), "-k", "3", "--html", str(page)]
    assert shlex.join(command) in text
    assert search(index[0], "--id", "image-2", "--html", page).exit_code == 0
    pictures = [found["src"] for tag, found in Page(page.read_text()).tags if tag == "img"]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("kind", ["npy", "embedding", "text"])
def test_a_file_of_queries_is_answered_in_order(
    index: tuple[str, np.ndarray], model: ClipModel, tmp_path: Path, kind: str
) -> None:
    texts = [f"a picture of number {number}" for number in range(7)]
    vectors = model.encode_texts(texts) * 3  # lengths do not matter
    queries = tmp_path / ("queries.npy" if kind == "npy" else "queries.parquet")
    if kind == "npy":
        np.save(queries, vectors)
    else:
        pq.write_table(pa.table({kind: texts if kind == "text" else list(vectors)}), queries)
    result = search(index[0], "--queries", queries, "--output", tmp_path / "results.parquet", "-k", 4)
    assert result.exit_code == 0, result.output
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.schema.equals(SEARCH_RESULTS)
    expected = np.argsort(-(vectors @ index[1].astype(np.float16).astype(np.float32).T), axis=1)[:, :4]
    assert table.column("row").to_pylist() == expected.reshape(-1).tolist()
    assert table.column("query").to_pylist() == np.repeat(np.arange(7), 4).tolist()
    assert table.column("rank").to_pylist() == [1, 2, 3, 4] * 7
    assert table.column("id").to_pylist() == [f"image-{row}" for row in expected.reshape(-1)]


def test_queries_that_cannot_be_used_are_refused_and_leave_no_file(
    index: tuple[str, np.ndarray], tmp_path: Path
) -> None:
    dimension = index[1].shape[1]
    bad = {
        "wide.npy": np.ones((2, dimension + 1), np.float32),
        "zeros.npy": np.zeros((2, dimension), np.float32),
        "nan.npy": np.full((2, dimension), np.nan, np.float32),
        "flat.npy": np.ones(dimension, np.float32),
        "whole.npy": np.ones((2, dimension), np.int64),
        "none.npy": np.ones((0, dimension), np.float32),
        "objects.npy": np.array([[1, "a"]], dtype=object),
    }
    for name, array in bad.items():
        np.save(tmp_path / name, array)
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "words.parquet")
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "gaps.parquet")
    pq.write_table(pa.table({"embedding": [[1.0], [1.0, 2.0]]}), tmp_path / "ragged.parquet")
    (tmp_path / "page.parquet").write_text("<html>")
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"embedding": [["a"], ["b"]]}), tmp_path / "letters.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    np.savez(tmp_path / "several.npz", np.ones((2, dimension), np.float32))
    shutil.copy(tmp_path / "several.npz", tmp_path / "archive.npy")
    (tmp_path / "words.npy").write_text("a red circle\n")
    whole = (tmp_path / "wide.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    (tmp_path / "header.npy").write_bytes(whole[:30])
    (tmp_path / "damaged.npy").write_bytes(whole[:10] + b"(" + whole[11:])
    (tmp_path / "folder.npy").mkdir()
    messages = {
        "flat.npy": f"(number, {dimension})",
        "wide.npy": f"vectors of {dimension + 1} dimensions",
        "zeros.npy": "query 0",
        "none.npy": "no queries",
        "none.parquet": "no queries",
        "objects.npy": "Python objects",
        "numbers.parquet": "not texts",
        "letters.parquet": "not lists of numbers",
        "several.npz": ".npz archive",
        "archive.npy": ".npz archive",
        "words.npy": "not a .npy file",
        "cut.npy": "cut short",
        "header.npy": "damaged header",
        "damaged.npy": "damaged header",
        "folder.npy": "is a folder, give a file",
    }
    for name in [*bad, *messages, "words.parquet", "gaps.parquet", "ragged.parquet", "page.parquet", "absent.npy"]:
        result = search(index[0], "--queries", tmp_path / name, "--output", tmp_path / "out" / "results.parquet")
        assert result.exit_code == 2, name
        assert name in result.output
        assert messages.get(name, "") in result.output
        assert "pickle" not in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())


def test_results_replace_no_file(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    queries = tmp_path / "queries.npy"
    np.save(queries, index[1])
    before = queries.read_bytes()
    (tmp_path / "link.npy").symlink_to(queries)
    (tmp_path / "results.parquet").write_text("mine")
    for name, message in [
        ("queries.npy", "the file of --queries itself"),
        ("link.npy", "the file of --queries itself"),
        ("results.parquet", "there already"),
        (".", "is a folder, give a file"),
    ]:
        result = search(index[0], "--queries", queries, "--output", tmp_path / name)
        assert (result.exit_code, message in result.output) == (2, True), result.output
        assert len(result.output.strip().splitlines()) == 1
    assert queries.read_bytes() == before
    assert (tmp_path / "results.parquet").read_text() == "mine"


def test_a_page_is_written_neither_on_a_folder_nor_on_the_image_asked_with(
    index: tuple[str, np.ndarray], tmp_path: Path
) -> None:
    image = tmp_path / "red.png"
    image.write_bytes(png(COLOURS[0]))
    for page, message in [(tmp_path, "is a folder, give a file"), (image, "the file of --image itself")]:
        result = search(index[0], "--image", image, "--html", page)
        assert (result.exit_code, message in result.output) == (2, True), result.output
    assert image.read_bytes() == png(COLOURS[0])


@pytest.mark.parametrize("k", [0, 100_001, 10**9, 10**23])
def test_more_results_than_can_be_given_are_refused(index: tuple[str, np.ndarray], k: int) -> None:
    result = search(index[0], "--id", "image-2", "-k", k)
    assert result.exit_code == 2
    assert "100000" in result.output


def test_the_most_results_are_all_the_rows(index: tuple[str, np.ndarray], tmp_path: Path) -> None:
    found = json.loads(search(index[0], "--id", "image-2", "-k", 100_000, "--json").stdout)["results"]
    assert sorted(record["row"] for record in found) == [0, 1, 2, 3, 4]
    np.save(tmp_path / "queries.npy", index[1])
    output = tmp_path / "results.parquet"
    assert search(index[0], "--queries", tmp_path / "queries.npy", "--output", output, "-k", 100_000).exit_code == 0
    assert pq.read_table(output).num_rows == 25


def test_what_is_no_index_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom clipmill_jobs.search import command\n"
        f"command(['--index', {str(tmp_path)!r}, '--text', 'a'], standalone_mode=False)\n"
        "sys.exit(7 if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "no manifest.json" in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "none was given"),
        (["--text", "a", "--id", "b"], "--text, --id was given"),
        (["--queries", "q.npy"], "go together"),
        (["--id", "nobody"], "no row"),
        (["--image", "absent.jpg"], "cannot be read"),
        (["--image", __file__], "no image that can be searched with"),
        (["--text", "  "], "empty"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(index: tuple[str, np.ndarray], options: list[str], message: str) -> None:
    result = search(index[0], *options)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_another_model_than_the_one_of_the_index_is_refused_with_what_differs(
    indexed: Callable[..., Index], model: ClipModel, tmp_path: Path
) -> None:
    vectors = np.eye(4, model.identity.dimension, dtype=np.float16)
    other = model.identity.model_copy(update={"weights_sha256": "0" * 64})
    opened = indexed(Embeddings.open(str(write_embeddings(tmp_path, vectors, vectors, identity=other))))
    result = search(str(Path(opened.table.paths[0]).parent), "--text", "a")
    assert result.exit_code == 2
    assert "weights_sha256" in result.output


def test_an_index_of_imported_vectors_is_searched_by_id_or_vectors_only(
    indexed: Callable[..., Index], clustered_embeddings: Callable[..., Embeddings]
) -> None:
    folder = str(Path(indexed(clustered_embeddings(30, 5)).table.paths[0]).parent)
    result = search(folder, "--text", "a red circle")
    assert result.exit_code == 2
    assert "imported vectors" in result.output
    assert "--queries" in result.output
    assert search(folder, "--id", "image-7", "--json").exit_code == 0
