"""The Python API: the same results as the commands, typed, without printing, importing nothing heavy by itself."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

import clipmill
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.reporter import Silent
from clipmill.core.settings import SampleSettings
from clipmill.scenes.dataset import write_scenes
from clipmill_jobs.__main__ import main


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.progressed: list[tuple[str, int, int | None, str]] = []

    def message(self, stage: str, text: str) -> None:
        self.messages.append((stage, text))

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        self.progressed.append((stage, done, total, unit))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, their embeddings with thumbnails, and an index over them."""
    folder = tmp_path_factory.mktemp("api")
    write_scenes(SampleSettings(output=str(folder / "scenes"), rows=60, seed=5, image_size=48), Silent())
    clipmill.embed(folder / "scenes", folder / "embeddings", thumbnails=32)
    clipmill.build_index(folder / "embeddings", folder / "index")
    return folder


@pytest.fixture(scope="module")
def index(place: Path) -> clipmill.SearchIndex:
    return clipmill.open_index(place / "index")


def test_importing_brings_nothing_heavy_and_changes_nothing() -> None:
    lines = (
        "import os, sys",
        "before = dict(os.environ), list(sys.meta_path)",
        "import clipmill",
        "assert (dict(os.environ), list(sys.meta_path)) == before",
        "print([name for name in ('torch', 'faiss', 'ray', 'pyarrow', 'numpy', 'pydantic') if name in sys.modules])",
        "print(sorted(set(clipmill.__all__) - set(dir(clipmill))))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_functions_stay_functions_when_rooms_are_imported() -> None:
    lines = (
        "import pkgutil, importlib, clipmill",
        "from clipmill.core.startup import prepare_process; prepare_process()",
        "for found in pkgutil.iter_modules(clipmill.__path__): importlib.import_module(f'clipmill.{found.name}')",
        "print([name for name in clipmill.__all__ if not callable(getattr(clipmill, name))])",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


def test_a_stage_returns_its_manifest_prints_nothing_and_tells_a_reporter(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    manifest = clipmill.embed(place / "scenes", tmp_path / "embeddings", limit=10, reporter=told)
    assert (manifest.counts.rows, manifest.counts.images) == (10, 10)
    assert json.loads((tmp_path / "embeddings" / "manifest.json").read_text())["counts"]["rows"] == 10
    assert told.progressed[-1] == ("embed", 10, 10, "rows")
    assert clipmill.embed(place / "scenes", tmp_path / "embeddings", limit=10) == manifest
    assert capfd.readouterr() == ("", "")


def test_mistakes_are_exceptions_that_name_every_setting_at_fault(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thumbnails.*limit|limit.*thumbnails"):
        clipmill.embed(place / "scenes", tmp_path / "out", limit=0, thumbnails=1)
    with pytest.raises(UserError, match=r"no_such_option|no-such-option"):
        clipmill.build_index(place / "embeddings", tmp_path / "out", no_such_option=1)
    with pytest.raises(OutputDiffers, match="thumbnails"):
        clipmill.embed(place / "scenes", place / "embeddings", thumbnails=64)
    with pytest.raises(UserError, match="has no manifest"):
        clipmill.open_index(tmp_path)


def test_words_find_what_the_command_finds(place: Path, index: clipmill.SearchIndex) -> None:
    found = index.search("two green triangles", k=5)
    arguments = ["search", "--index", str(place / "index"), "--text", "two green triangles", "-k", "5", "--json"]
    told = json.loads(CliRunner().invoke(main, arguments, catch_exceptions=False).stdout)["results"]
    assert [(hit.rank, hit.row, hit.id) for hit in found] == [(one["rank"], one["row"], one["id"]) for one in told]
    assert [hit.score for hit in found] == pytest.approx([one["score"] for one in told])
    assert found[0].columns["label"] == told[0]["label"]


def test_one_query_gives_one_list_of_hits(index: clipmill.SearchIndex) -> None:
    found = index.search("a star", k=4)
    assert len(found) == 4
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.rows.tolist() == [hit.row for hit in found]
    assert (np.diff(found.scores) <= 0).all()
    assert found.to_arrow().column_names[:4] == ["rank", "score", "row", "id"]
    assert found.to_pandas()["id"].tolist() == [hit.id for hit in found]
    assert found[-1] == found[3]
    with pytest.raises(IndexError):
        found[4]


def test_several_queries_give_a_list_each(index: clipmill.SearchIndex) -> None:
    words = ["a star", "a circle", "a star"]
    found = index.search(words, k=3)
    assert isinstance(found, clipmill.HitLists)
    assert (found.rows.shape, found.scores.shape) == ((3, 3), (3, 3))
    assert found.rows[0].tolist() == found.rows[2].tolist() == index.search("a star", k=3).rows.tolist()
    assert found.to_arrow().column("query").to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found.to_pandas().groupby("query").size().tolist() == [3, 3, 3]
    assert len(index.search([], k=3)) == 0


def test_vectors_and_pictures_are_queries(place: Path, index: clipmill.SearchIndex, tmp_path: Path) -> None:
    row = pq.read_table(place / "embeddings" / "images").slice(7, 1).to_pylist()[0]
    vector = np.array(row["embedding"], np.float32)
    assert index.search(vector, k=1)[0].row == row["row"]
    assert index.search(vector.tolist(), k=1)[0].row == row["row"]
    assert index.search(vector[None], k=1).rows.tolist() == [[row["row"]]]
    data = pq.read_table(place / "scenes" / "part-00000.parquet").column("image")[7].as_py()["bytes"]
    (tmp_path / "scene.png").write_bytes(data)
    by_path = index.search(tmp_path / "scene.png", k=2)
    by_picture = index.search(Image.open(io.BytesIO(data)), k=2)
    assert by_path.rows.tolist() == by_picture.rows.tolist()
    assert by_path[0].row == row["row"]
    with pytest.raises(UserError, match="shape"):
        index.search(np.zeros((2, 2, 2), np.float32))
    with pytest.raises(UserError, match="dimensions"):
        index.search(np.zeros(3, np.float32))


def test_a_condition_narrows_the_rows_and_fewer_are_padded(index: clipmill.SearchIndex) -> None:
    found = index.search("a star", k=60, where="size = 'large'")
    assert 0 < len(found) < 60
    assert set(found.to_arrow().column("size").to_pylist()) == {"large"}
    several = index.search(["a star"], k=60, where="size = 'large'")
    assert (several.rows[0, len(found) :] == -1).all()
    assert np.isneginf(several.scores[0, len(found) :]).all()


def test_the_model_is_loaded_once(index: clipmill.SearchIndex) -> None:
    index.search("a star")
    encoder = index._encoder
    loaded = encoder._loaded
    index.search(["a circle", "a moon"])
    assert index._encoder is encoder
    assert encoder._loaded is loaded


def test_results_show_their_pictures_and_escape_their_texts(index: clipmill.SearchIndex) -> None:
    page = index.search("<b>star</b>", k=2)._repr_html_()
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert "<b>star</b>" not in page


def test_published_versions_are_opened_and_verified_by_their_place(place: Path, tmp_path: Path) -> None:
    run_file = tmp_path / "nightly.yaml"
    run_file.write_text(f"output: {tmp_path}/nightly\nembed:\n  input: {place}/scenes\nindex: {{}}\n")
    version = clipmill.run(run_file)
    assert version is not None
    assert version.counts.images == 60
    assert clipmill.run(run_file) is None
    assert len(clipmill.open_index(tmp_path / "nightly")) == 60
    findings = clipmill.verify(tmp_path / "nightly")
    assert [found.kind for found in findings] == ["embeddings", "index", "report"]
    assert all(found.whole for found in findings)
    assert clipmill.verify(tmp_path / "nightly", cpus=1) == findings
    quick = clipmill.verify(tmp_path / "nightly", quick=True, address="nowhere:1")  # nothing to connect for
    assert all(found.whole for found in quick)


def test_near_duplicates_selections_and_reports_are_functions_too(place: Path, tmp_path: Path) -> None:
    duplicates = clipmill.dedup(place / "embeddings", tmp_path / "duplicates", threshold=0.9)
    assert duplicates.n == 60
    selection = clipmill.filter(place / "embeddings", tmp_path / "selection", where="size = 'large'")
    assert selection.kept + selection.dropped == 60
    report = clipmill.evaluate(place / "embeddings", tmp_path / "report", probe=False, bootstrap_samples=0)
    assert report.dataset is not None
    assert (tmp_path / "report" / "report.html").is_file()
