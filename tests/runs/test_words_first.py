"""A run that writes words first embeds the captions that are true; a night writes about what is new, a takedown takes texts."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import clipmill
from blocks import encoded
from clipmill.core.errors import UserError
from clipmill.core.reporter import Silent
from clipmill.core.takedown import Takedown
from clipmill.datasets.manifests import Embeddings
from clipmill.runs.run_file import read_run_file
from clipmill.verification.taken_down import verify_taken_down
from clipmill.versions.place import Place
from clipmill.versions.takedown import add_removed
from clipmill.words import steps
from tiny_generators import tiny_generator

ROWS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_generator("llava", tmp_path_factory.mktemp("llava")).folder)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that were written about, added up."""
    plain, rows = steps.commit_unit, []

    def counted(layout: Any, number: int, packed: Any) -> None:
        rows.append(number)
        plain(layout, number, packed)

    monkeypatch.setattr(steps, "commit_unit", counted)
    return rows


def add_file(folder: Path, name: str, first: int) -> None:
    rows = range(first, first + ROWS)
    columns = {
        "key": [f"p{row}" for row in rows],
        "image": [encoded(row) for row in rows],
        "text": [f"picture {row}" for row in rows],
        "place": [f"street {row}" for row in rows],
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def run_file(folder: Path, model: str, **sections: Any) -> Path:
    document = {
        "output": str(folder / "place"),
        "caption": {"model": model, "max_tokens": 5},
        "recaption": {"threshold": -1.0},
        "embed": {"input": str(folder / "in")},
        "index": False,
        "evaluate": False,
        "cluster": {"device": "cpu", "cpus": 1},
        "gates": {"max_row_loss": None},
        **sections,
    }
    document = {name: section for name, section in document.items() if section is not None}
    (folder / "run.yaml").write_text(yaml.safe_dump(document))
    return folder / "run.yaml"


def captions_of(folder: Path, name: str) -> dict[str, list[str]]:
    """The captions of a version by id."""
    table = Embeddings.open(str(folder / "place/runs" / name / "embeddings")).table("captions", ["id", "caption"])
    found: dict[str, list[str]] = {}
    for one in table.to_pylist():
        found.setdefault(one["id"], []).append(one["caption"])
    return found


def everything_in(folder: Path) -> bytes:
    """The bytes of all Parquet files about words, decoded."""
    found = []
    for file in folder.glob("place/words/**/*.parquet"):
        table = pq.read_table(file)
        found.append(str(table.to_pylist()).encode())
        found += [
            value for name in table.column_names if name == "image" for value in table.column(name).to_pylist() if value
        ]
    return b"".join(found)


def test_a_night_writes_about_new_files_only(model: str, tmp_path: Path, written: list[int]) -> None:
    add_file(tmp_path / "in", "a", 0)
    path = run_file(tmp_path, model)
    first = clipmill.run(path)
    assert first is not None
    captions = captions_of(tmp_path, first.name)
    assert set(captions) == {f"p{row}" for row in range(ROWS)}
    assert all(texts[0] == f"picture {key[1:]}" and len(texts) == 2 for key, texts in captions.items())
    kept = Embeddings.open(str(tmp_path / "place/runs" / first.name / "embeddings")).manifest.kept_columns
    assert {"key", "place"} <= set(kept)
    once = len(written)
    assert clipmill.run(path) is None
    assert len(written) == once
    add_file(tmp_path / "in", "b", 100)
    second = clipmill.run(path)
    assert second is not None
    assert len(written) == 2 * once
    assert (second.rows_encoded, second.rows_reused) == (ROWS, ROWS)
    assert captions_of(tmp_path, second.name).items() >= captions.items()
    (tmp_path / "in/a.parquet").unlink()
    third = clipmill.run(path)
    assert third is not None
    assert (third.rows_encoded, third.counts.rows) == (0, ROWS)
    assert len(list((tmp_path / "place/words").iterdir())) == 1
    assert all(found.whole for found in clipmill.verify(tmp_path / "place"))


def test_another_threshold_filters_again_and_writes_nothing(model: str, tmp_path: Path, written: list[int]) -> None:
    add_file(tmp_path / "in", "a", 0)
    first = clipmill.run(run_file(tmp_path, model))
    once = len(written)
    second = clipmill.run(run_file(tmp_path, model, recaption={"threshold": 1.0}))
    assert first is not None
    assert second is not None
    assert len(written) == once
    assert (first.counts.captions, second.counts.captions) == (2 * ROWS, 0)


def test_texts_alone_leave_the_input_as_it_is(model: str, tmp_path: Path) -> None:
    add_file(tmp_path / "in", "a", 0)
    version = clipmill.run(run_file(tmp_path, model, recaption=None))
    assert version is not None
    assert version.counts.captions == ROWS
    (texts,) = (tmp_path / "place/words").glob("*/texts")
    assert clipmill.verify(texts)[0].whole


def test_words_go_when_the_run_file_asks_for_none_any_more(model: str, tmp_path: Path) -> None:
    add_file(tmp_path / "in", "a", 0)
    assert clipmill.run(run_file(tmp_path, model)) is not None
    assert (tmp_path / "place/words").is_dir()
    version = clipmill.run(run_file(tmp_path, model, caption=None, recaption=None))
    assert version is not None
    assert not (tmp_path / "place/words").exists()
    assert captions_of(tmp_path, version.name) == {f"p{row}": [f"picture {row}"] for row in range(ROWS)}
    (tmp_path / "place/words/left/texts").mkdir(parents=True)  # as by a run that ended before it came to that
    assert clipmill.run(run_file(tmp_path, model, caption=None, recaption=None)) is None
    assert not (tmp_path / "place/words").exists()


@pytest.mark.parametrize("before", [True, False])
def test_a_takedown_takes_texts_and_captions_too(model: str, tmp_path: Path, written: list[int], before: bool) -> None:
    """Of an id and of a content, before they were ever written about and after."""
    add_file(tmp_path / "in", "a", 0)
    add_file(tmp_path / "in", "b", 100)
    path = run_file(tmp_path, model)
    wanted = Takedown(frozenset({"p3"}), frozenset({hashlib.sha256(encoded(105)).hexdigest()}))
    if not before:
        assert clipmill.run(path) is not None
        assert b"street 3'" in everything_in(tmp_path)
    place = Place.of(str(tmp_path / "place"))
    add_removed(place, wanted)
    if not before:
        told = verify_taken_down(place, Silent())
        assert told is not None
        assert {fault.split("/")[2] for fault in told.faults if fault.startswith("words/")} >= {"texts"}
    written.clear()
    version = clipmill.run(path)
    assert version is not None
    assert bool(written) == before
    told = verify_taken_down(place, Silent())
    assert told is not None
    assert not [fault for fault in told.faults if fault.startswith("words/")]
    left = everything_in(tmp_path)
    for gone in (b"street 3'", b"picture 3'", encoded(3), b"street 105'", b"picture 105'", encoded(105)):
        assert gone not in left
    for stays in (b"street 4'", b"picture 104'", encoded(4), encoded(104)):
        assert stays in left
    assert set(captions_of(tmp_path, version.name)) == {f"p{row}" for row in (*range(ROWS), *range(100, 112))} - {
        "p3",
        "p105",
    }
    for folder in (tmp_path / "place/words").iterdir():
        for dataset in folder.iterdir():
            assert clipmill.verify(dataset)[0].faults == []
    written.clear()
    assert clipmill.run(path) is None
    assert written == []


def test_a_takedown_of_a_file_that_is_half_written_asks_nobody_twice(
    model: str, tmp_path: Path, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_file(tmp_path / "in", "a", 0)
    path = run_file(tmp_path, model, recaption=None)
    counted = steps.commit_unit

    def killed(layout: Any, number: int, packed: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        counted(layout, number, packed)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "commit_unit", killed)
        with pytest.raises(KeyboardInterrupt):
            clipmill.run(path)
    assert written == [0]
    add_removed(Place.of(str(tmp_path / "place")), Takedown(frozenset({"p3", "p10"})))
    version = clipmill.run(path)
    assert version is not None
    assert written == [0, 1]
    (texts,) = (tmp_path / "place/words").glob("*/texts")
    assert clipmill.verify(texts)[0].faults == []
    said = pq.ParquetDataset(texts / "texts").read().column("id").to_pylist()
    assert set(said) == {f"p{row}" for row in range(ROWS)} - {"p3", "p10"}


def test_a_takedown_takes_texts_that_stand_alone(model: str, tmp_path: Path, written: list[int]) -> None:
    add_file(tmp_path / "in", "a", 0)
    path = run_file(tmp_path, model, recaption=None)
    assert clipmill.run(path) is not None
    wanted = Takedown(frozenset({"p3"}), frozenset({hashlib.sha256(encoded(5)).hexdigest()}))
    add_removed(Place.of(str(tmp_path / "place")), wanted)
    written.clear()
    assert clipmill.run(path) is not None
    assert written == []
    (texts,) = (tmp_path / "place/words").glob("*/texts")
    assert clipmill.verify(texts)[0].faults == []
    said = pq.ParquetDataset(texts / "texts").read().column("id").to_pylist()
    assert set(said) == {f"p{row}" for row in range(ROWS)} - {"p3", "p5"}
    rejected = pq.ParquetDataset(texts / "rejected").read().to_pylist()
    assert {(one["id"], one["reason"], one["detail"]) for one in rejected} == {
        ("p3", "removed", "taken down"),
        ("p5", "removed", "taken down"),
    }


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"caption": None}, "`recaption` needs `caption`"),
        ({"caption": {"model": "m", "limit": 5}}, "caption.limit: every source file is written about whole"),
        ({"caption": {"model": "m", "input": "x"}}, "caption.input follows from `output` and is not set here"),
        ({"recaption": {"texts": "x"}}, "recaption.texts follows from `output`"),
        ({"embed": {"input": "in", "caption_column": "text"}}, "embed.caption_column follows from `recaption`"),
        ({"caption": {"modell": "m"}}, "caption.modell is not known; did you mean model"),
    ],
)
def test_mistakes_are_told_with_their_line(sections: dict[str, Any], message: str, model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_run_file(run_file(tmp_path, model, **sections))


def test_a_list_of_pictures_is_written_about_like_any_file(model: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for row in range(3):
        (tmp_path / f"in/{row}.png").write_bytes(encoded(row))
    (tmp_path / "in/list.csv").write_text("id,path\n" + "".join(f"p{row},{row}.png\n" for row in range(3)))
    listed = run_file(tmp_path, model, embed={"input": str(tmp_path / "in/list.csv")})
    version = clipmill.run(listed)
    assert version is not None
    assert {name: len(texts) for name, texts in captions_of(tmp_path, version.name).items()} == {
        "p0": 1,
        "p1": 1,
        "p2": 1,
    }
