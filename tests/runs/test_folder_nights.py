"""Night after night over a folder of pictures: only what is new or changed is encoded, what is gone leaves, ids stay true."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipmill
from clipmill.datasets.manifests import Embeddings
from clipmill.report.results.pictures import pictures_of

RUN = """
output: out
embed:
  input: photos
index:
  tuning_queries: 3
evaluate:
  templates: plain
gates:
  max_row_loss: null
"""


def write(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        write(tmp_path / f"photos/{'ab'[number % 2]}/{number}.png", number)
    (tmp_path / "photos/a/0.txt").write_text("a first\na second\n")
    (tmp_path / "photos/a/2.txt").write_text("another\n")
    (tmp_path / "photos/broken.jpg").write_bytes(b"no picture")
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path / "photos"


def night(folder: Path) -> tuple[Embeddings, int, dict[str, int]]:
    """The embeddings after a run, how many rows it encoded, and the row of each picture."""
    version = clipmill.run(folder.parent / "run.yaml")
    embeddings = Embeddings.open(str(folder.parent / "out/runs" / version.name / "embeddings"))
    assert all(found.whole for found in clipmill.verify(folder.parent / "out"))
    table = embeddings.table("images", ["id", "row"])
    rows = dict(zip(table.column("id").to_pylist(), table.column("row").to_pylist(), strict=True))
    return embeddings, embeddings.manifest.runs[-1].rows_encoded, rows


def test_only_pictures_that_are_new_or_changed_are_encoded(folder: Path) -> None:
    first, encoded, rows = night(folder)
    assert (encoded, len(rows), first.manifest.counts.captions) == (13, 12, 3)

    (folder / "a/2.png").unlink()
    (folder / "a/2.txt").unlink()
    write(folder / "a/4.png", 400)
    write(folder / "b/new.png", 500)
    second, encoded, later = night(folder)
    assert encoded == 2
    assert sorted(later) == sorted({*rows, "b/new.png"} - {"a/2.png"})
    kept = set(rows) - {"a/2.png", "a/4.png"}
    assert {name: later[name] for name in kept} == {name: rows[name] for name in kept}, "rows are never renumbered"
    assert len({*rows.values(), *later.values()}) == len(rows) + 2, "nor used again"
    assert second.manifest.counts.captions == 2
    inputs = pq.read_table(
        folder.parent / "out/runs" / Path(second.location.path).parent.name / "embeddings/inputs.parquet"
    )
    assert inputs.column("rows").to_pylist() == [11, 2]

    assert clipmill.run(folder.parent / "run.yaml") is None, "nothing has changed"

    for path in (folder / "b").iterdir():
        path.unlink()
    third, encoded, last = night(folder)
    assert encoded == 0
    assert last == {name: row for name, row in later.items() if not name.startswith("b/")}
    assert third.manifest.counts.rejected_by_reason == {"not_an_image": 1}, (
        "a reject that is unchanged is not tried again"
    )


def test_captions_beside_a_picture_are_part_of_it(folder: Path) -> None:
    night(folder)
    (folder / "a/0.txt").write_text("now otherwise\n")
    changed, encoded, _ = night(folder)
    assert encoded == 1
    captions = changed.table("captions", ["caption"]).column(0).to_pylist()
    assert sorted(captions) == ["another", "now otherwise"]


def test_a_folder_that_comes_back_as_it_was_has_its_pictures_once(folder: Path) -> None:
    _, _, rows = night(folder)
    moved = folder.parent / "aside.png"
    (folder / "b/1.png").rename(moved)
    night(folder)
    moved.rename(folder / "b/1.png")
    _, encoded, again = night(folder)
    assert encoded == 1
    assert sorted(again) == sorted(rows)


def test_pictures_of_results_are_those_of_their_rows(folder: Path) -> None:
    night(folder)
    (folder / "a/0.png").unlink()
    (folder / "a/0.txt").unlink()
    write(folder / "b/new.png", 7000)
    embeddings, _, rows = night(folder)
    write(folder / "b/1.png", 9000)  # after it was embedded
    found = pictures_of(embeddings, list(rows.values()))
    assert set(found.missing) == {rows["b/1.png"]}
    assert "another one" in found.missing[rows["b/1.png"]]
    shown = np.asarray(Image.open(io.BytesIO(found.found[rows["b/new.png"]])).convert("RGB"), np.float32)
    sources = {path: Image.open(path).resize(shown.shape[1::-1]) for path in folder.rglob("*.png")}
    alike = {
        path: np.corrcoef(shown.ravel(), np.asarray(one, np.float32).ravel())[0, 1] for path, one in sources.items()
    }
    assert max(alike, key=lambda path: alike[path]) == folder / "b/new.png"
