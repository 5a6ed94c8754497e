"""A run writes words about a folder of pictures as it embeds it: about those alone that are new or were changed."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

import clipmill
from clipmill.core.schemas import LISTING
from clipmill.core.takedown import Takedown
from clipmill.datasets.manifests import Embeddings
from clipmill.runs.batches import batches
from clipmill.source.listed import of_listing
from clipmill.versions.place import Place
from clipmill.versions.takedown import add_removed
from clipmill.words.engines.transformers import TransformersGenerator
from clipmill.words.protocol import Question
from tiny_generators import tiny_generator


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The mean of each picture that the model was asked about."""
    plain, seen = TransformersGenerator.prepare, []

    def prepare(self: TransformersGenerator, question: Question) -> Any:
        seen.append(round(float(question.picture.float().mean())))
        return plain(self, question)

    monkeypatch.setattr(TransformersGenerator, "prepare", prepare)
    return seen


def add(folder: Path, name: str, shade: int, caption: str | None = None) -> bytes:
    """A picture of one shade, which tells it from others."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), (shade, shade, shade)).save(stream, "PNG")
    (folder / name).write_bytes(stream.getvalue())
    if caption:
        (folder / name).with_suffix(".txt").write_text(caption)
    return stream.getvalue()


def run_file(folder: Path, model: str, **sections: Any) -> Path:
    document = {
        "output": str(folder / "place"),
        "caption": {"model": model, "max_tokens": 5},
        "embed": {"input": str(folder / "photos")},
        "index": False,
        "evaluate": False,
        "cluster": {"device": "cpu", "cpus": 1},
        "gates": {"max_row_loss": None},
        **sections,
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    return folder / "run.yaml"


def texts_in(folder: Path) -> dict[str, str]:
    """What was written, by id; an id that is there twice is a fault."""
    found = [
        row for file in folder.glob("place/words/*/texts/texts/*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    texts = {row["id"]: row["text"] for row in found}
    assert len(texts) == len(found)
    return texts


def test_a_night_writes_about_new_and_changed_pictures_only(model: str, tmp_path: Path, asked: list[int]) -> None:
    photos = tmp_path / "photos"
    for number in range(6):
        add(photos, f"a/{number}.png", 10 * number)
    path = run_file(tmp_path, model)
    assert clipmill.run(path) is not None
    assert sorted(asked) == [0, 10, 20, 30, 40, 50]
    first = texts_in(tmp_path)
    assert set(first) == {f"a/{number}.png" for number in range(6)}
    asked.clear()
    assert clipmill.run(path) is None
    assert asked == []
    (photos / "a/2.png").unlink()
    add(photos, "a/4.png", 104)
    add(photos, "b/new.png", 200)
    assert clipmill.run(path) is not None
    assert sorted(asked) == [104, 200]
    second = texts_in(tmp_path)
    kept = {f"a/{number}.png" for number in (0, 1, 3, 5)}
    assert set(second) == kept | {"a/4.png", "b/new.png"}
    assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
    asked.clear()
    assert clipmill.run(path) is None
    assert asked == []
    for texts in (tmp_path / "place/words").glob("*/texts"):
        assert clipmill.verify(texts)[0].faults == []


def test_what_is_embedded_has_the_captions_that_are_kept_and_no_picture_that_is_gone(
    model: str, tmp_path: Path, asked: list[int]
) -> None:
    photos = tmp_path / "photos"
    shown = {f"{number}.png": add(photos, f"{number}.png", 30 * number, f"shade {number}") for number in range(5)}
    path = run_file(tmp_path, model, recaption={"threshold": -1.0})
    assert clipmill.run(path) is not None
    (photos / "1.png").unlink()
    (photos / "1.txt").unlink()
    version = clipmill.run(path)
    assert version is not None
    assert len(asked) == 5
    assert version.counts.rows == 4
    embeddings = Embeddings.open(str(tmp_path / "place/runs" / version.name / "embeddings"))
    captions: dict[str, list[str]] = {}
    for row in embeddings.table("captions", ["id", "caption"]).to_pylist():
        captions.setdefault(row["id"], []).append(row["caption"])
    texts = texts_in(tmp_path)
    assert captions == {f"{number}.png": [f"shade {number}", texts[f"{number}.png"]] for number in (0, 2, 3, 4)}
    wanted = Takedown(frozenset({"3.png"}), frozenset({hashlib.sha256(shown["4.png"]).hexdigest()}))
    add_removed(Place.of(str(tmp_path / "place")), wanted)
    assert clipmill.run(path) is not None
    assert len(asked) == 5
    assert set(texts_in(tmp_path)) == {"0.png", "2.png"}


def folder_of(*pictures: tuple[str, int, str]) -> Any:
    listing = listing_of(*pictures)
    paths = listing.column("path")
    return of_listing("photos/*", pa.table({"id": paths, "path": paths}), listing)


def listing_of(*pictures: tuple[str, int, str]) -> pa.Table:
    columns = [list(column) for column in zip(*pictures, strict=True)]
    return pa.table([np.arange(len(pictures)), *columns], schema=LISTING)


def test_every_picture_is_in_one_batch_and_whole_ones_come_first() -> None:
    a, b, c, d = (("abcd"[at], at, "1") for at in range(4))
    gone, changed = ("gone", 9, "1"), ("b", 1, "0")
    found = batches(folder_of(a, b, c, d), [listing_of(a, gone, c), listing_of(a, changed), listing_of(c)])
    said = [
        (batch.file.listed.column("id").to_pylist(), None if batch.rows is None else batch.rows.tolist())
        for batch in found
        if batch.file.listed is not None
    ]
    assert said == [(["c"], None), (["a"], [0]), (["b", "d"], None)]
    assert found[1].larger is not None
    assert found[1].larger.rows == 3
    assert found[1].file.etag == folder_of(a).etag
