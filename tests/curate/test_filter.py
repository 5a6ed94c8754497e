"""`clipmill filter` keeps rows that meet every condition, and gives every reason for each of the others."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from clipmill.core.errors import UserError
from clipmill.core.manifests import DuplicatesManifest, SelectionManifest
from clipmill.core.reporter import Silent
from clipmill.core.schemas import groups_schema, pairs_schema
from clipmill.core.settings import ModelSettings
from clipmill.curate import filter as filter_module
from clipmill.curate import filter_steps, filtering
from clipmill.curate.prompts import Prompt
from clipmill.datasets.manifests import Embeddings, read_manifest, write_manifest
from clipmill.datasets.shards import describe_shard, write_shards
from clipmill.encoders.model import ClipModel, load_model
from clipmill.storage import resolve
from clipmill.verification.dataset import verify
from clipmill_jobs.filter import command
from clustered import write_embeddings

ROWS = 40
TEXTS = ["a red circle", "a blue square", "a green triangle", "a yellow star"]


@pytest.fixture(scope="module")
def model() -> ClipModel:
    return load_model(ModelSettings(), device="cpu")


@pytest.fixture(scope="module")
def cosines(model: ClipModel) -> np.ndarray:
    """What the images, which here lie where the texts do, have to do with each text: (ROWS, 4)."""
    texts = model.encode_texts(TEXTS)
    return _images(model).astype(np.float32) @ texts.T


def _images(model: ClipModel) -> np.ndarray:
    texts = model.encode_texts(TEXTS)
    rng = np.random.default_rng(0)
    mixed = texts[np.arange(ROWS) % 4] + 0.1 * rng.standard_normal((ROWS, texts.shape[1]))
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def embeddings(model: ClipModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ROWS images of four kinds; two captions each of the first twenty, with clip scores row/100 and (row + 1)/100."""
    folder = tmp_path_factory.mktemp("filtered") / "embeddings"
    images = _images(model)
    labels = [f"kind {row % 4}" for row in range(ROWS)]
    write_embeddings(folder, images, images[:20], labels=labels, files=3, row_group_size=7, identity=model.identity)
    shards = []
    for shard in Embeddings.open(str(folder)).shards:
        path = folder / shard.path
        if shard.part == "captions":
            table = pq.read_table(path)
            twice = pa.concat_tables([table, table]).sort_by("row")
            index = np.tile([0, 1], table.num_rows).astype(np.int32)
            row = twice.column("row").to_numpy()
            columns = {
                "caption_index": pa.array(index),
                "clip_score": pa.array(((row + index) / 100).astype(np.float32)),
                "caption": pa.array([f"{r}/{i}" for r, i in zip(row, index, strict=True)]),
            }
            for name, values in columns.items():
                place = twice.schema.get_field_index(name)
                twice = twice.set_column(place, twice.schema.field(name), values)
            pq.write_table(twice, path, row_group_size=5)
            ends = (int(row[0]), int(row[-1]))
            shards.append(describe_shard(resolve(folder), shard.path, "captions", len(row), *ends))
        else:
            shards.append(shard)
    manifest = Embeddings.open(str(folder)).manifest
    digest = write_shards(resolve(folder), shards)
    write_manifest(resolve(folder), manifest.model_copy(update={"shards_sha256": digest}))
    return folder


def run(*options: object) -> Result:
    return CliRunner().invoke(command, [str(option) for option in options])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_row_is_kept_or_dropped_with_all_reasons(embeddings: Path, cosines: np.ndarray, tmp_path: Path) -> None:
    bound = float(np.median(cosines[:, 0]))
    options = ("--embeddings", embeddings, "--output", tmp_path / "out", "--json")
    conditions = ("--min-clip-score", 0.1, "--prompt", f"a red circle >= {bound}", "--prompt", "a blue square")
    result = run(*options, *conditions, "--where", "label <> 'kind 2' and row > 3")
    assert result.exit_code == 0, result.output
    where_reason = "not where label <> 'kind 2' and row > 3"
    prompt_reason = f"prompt 'a red circle' not >= {bound:g}"
    expected = {
        row: [
            *(["clip_score below 0.1"] if row >= 20 or np.float32((row + 1) / 100) < np.float32(0.1) else []),
            *([prompt_reason] if cosines[row, 0] < np.float32(bound) else []),
            *([where_reason] if row % 4 == 2 or row <= 3 else []),
        ]
        for row in range(ROWS)
    }
    dropped = rows_of(tmp_path / "out/dropped")
    kept = rows_of(tmp_path / "out/kept")
    assert {row["row"]: row["why"] for row in dropped} == {row: why for row, why in expected.items() if why}
    assert [row["row"] for row in kept] == [row for row, why in expected.items() if not why]
    assert kept
    document = json.loads(result.stdout)
    assert (document["rows"], document["kept"], document["dropped"]) == (ROWS, len(kept), len(dropped))
    assert document["prompts"] == ["a red circle", "a blue square"]
    for reason, count in document["dropped_by_reason"].items():
        assert count == sum(reason in why for why in expected.values()), reason
    for row in kept + dropped:
        number = row["row"]
        assert row["id"] == f"image-{number}"
        assert row["captions"] == ([f"{number}/0", f"{number}/1"] if number < 20 else [])
        assert row["clip_score"] == (pytest.approx((number + 1) / 100) if number < 20 else None)
        assert [row["cosine_1"], row["cosine_2"]] == pytest.approx(cosines[number, :2].tolist(), abs=1e-5)
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).whole


def test_files_are_cut_and_in_order(embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips begin within files and row groups, and each finds the captions of its own rows."""
    monkeypatch.setattr(filter_module, "STRIP_ROWS", 9)
    monkeypatch.setattr(filter_steps, "_BATCH_ROWS", 6)
    assert run("--embeddings", embeddings, "--output", tmp_path / "out", "--where", "row % 2 = 0").exit_code == 0
    assert len(list((tmp_path / "out/kept").iterdir())) == 5
    kept = rows_of(tmp_path / "out/kept")
    assert [row["row"] for row in kept] == list(range(0, ROWS, 2))
    captions = [[f"{row}/0", f"{row}/1"] if row < 20 else [] for row in range(0, ROWS, 2)]
    assert [row["captions"] for row in kept] == captions
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).whole


def test_a_strip_without_kept_rows_has_no_file_of_them(
    embeddings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_module, "STRIP_ROWS", 10)
    assert run("--embeddings", embeddings, "--output", tmp_path / "out", "--where", "row >= 25").exit_code == 0
    names = {part: sorted(file.name for file in (tmp_path / "out" / part).iterdir()) for part in ("kept", "dropped")}
    assert names == {
        "kept": [f"part-0000{number}.parquet" for number in (0, 2, 3)],
        "dropped": [f"part-0000{number}.parquet" for number in (0, 1, 2)],
    }
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).whole


def test_a_killed_run_is_continued_with_the_strips_that_are_left(
    embeddings: Path, cosines: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_module, "STRIP_ROWS", 10)
    bound = float(np.median(cosines[:, 0]))
    options = ("--embeddings", embeddings, "--prompt", f"a red circle >= {bound}", "--min-clip-score", 0.05)
    assert run(*options, "--output", tmp_path / "whole").exit_code == 0
    judged: list[int] = []

    def killed_at_the_third(*given: Any) -> Any:
        judged.append(given[2].number)
        if len(judged) == 3:
            raise SystemExit(9)
        return filter_steps.filter_strip(*given)

    with monkeypatch.context() as killed:
        killed.setattr(filtering, "filter_strip", killed_at_the_third)
        assert run(*options, "--output", tmp_path / "out").exit_code == 9
    monkeypatch.setattr(filtering, "filter_strip", killed_at_the_third)
    assert run(*options, "--output", tmp_path / "out").exit_code == 0
    assert judged == [0, 1, 2, 2, 3]
    manifest = read_manifest(resolve(tmp_path / "out"), SelectionManifest)
    assert [(done.rows_reused, done.rows_encoded) for done in manifest.runs][-1] == (20, 20)
    for part in ("kept", "dropped"):
        assert rows_of(tmp_path / "out" / part) == rows_of(tmp_path / "whole" / part)
    assert manifest.dropped_by_reason == read_manifest(resolve(tmp_path / "whole"), SelectionManifest).dropped_by_reason
    assert verify(str(tmp_path / "out"), quick=False, reporter=Silent()).whole


def test_a_selection_without_rows_still_has_its_columns(embeddings: Path, tmp_path: Path) -> None:
    assert run("--embeddings", embeddings, "--output", tmp_path / "out", "--where", "row < 0").exit_code == 0
    assert pq.read_table(tmp_path / "out/kept").num_rows == 0
    assert (
        pq.read_table(tmp_path / "out/kept").column_names == pq.read_table(tmp_path / "out/dropped").column_names[:-1]
    )


def _write_duplicates(folder: Path, embeddings: Path, **changes: object) -> Path:
    """Groups (3, 5, 8), of which 5 is kept, and (10, 11), of which 10 is."""
    members = {3: (0, False), 5: (0, True), 8: (0, False), 10: (1, True), 11: (1, False)}
    groups = [
        {"group": group, "row": row, "id": f"image-{row}", "kept": kept, "least_cosine": 1.0}
        for row, (group, kept) in members.items()
    ]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(groups, groups_schema(captions=False)), folder / "groups.parquet")
    pq.write_table(pairs_schema(captions=False).empty_table(), folder / "pairs.parquet")
    dataset = Embeddings.open(str(embeddings))
    values: dict[str, Any] = {
        "n": ROWS,
        "gallery": "images",
        "threshold": 0.9,
        "pairs": 0,
        "groups": 2,
        "rows_in_groups": 5,
        "rows_dropped": 3,
        "largest_group": 3,
        "configuration": {},
        "embeddings": str(embeddings),
        "embeddings_manifest_sha256": dataset.manifest_sha256,
        "shards_sha256": "0" * 64,
        "runs": [],
        "software": {},
        "hardware": {},
    }
    write_manifest(resolve(folder), DuplicatesManifest(**{**values, **changes}))
    return folder


def test_duplicates_that_are_not_kept_are_dropped(embeddings: Path, tmp_path: Path) -> None:
    duplicates = _write_duplicates(tmp_path / "duplicates", embeddings)
    result = run("--embeddings", embeddings, "--output", tmp_path / "out", "--duplicates", duplicates)
    assert result.exit_code == 0, result.output
    dropped = rows_of(tmp_path / "out/dropped")
    assert [(row["row"], row["why"]) for row in dropped] == [(row, ["duplicate"]) for row in (3, 8, 11)]
    assert "37 of 40 images are kept, 3 dropped" in result.stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gallery": "captions"}, "are of captions"),
        ({"embeddings_manifest_sha256": "1" * 64}, "run `clipmill dedup` on these"),
    ],
)
def test_duplicates_of_something_else_are_refused(
    embeddings: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    duplicates = _write_duplicates(tmp_path / "duplicates", embeddings, **changes)
    result = run("--embeddings", embeddings, "--output", tmp_path / "out", "--duplicates", duplicates)
    assert result.exit_code == 2
    assert says in result.stderr


def test_the_same_command_again_does_nothing_and_another_is_refused(embeddings: Path, tmp_path: Path) -> None:
    options = ("--embeddings", embeddings, "--output", tmp_path / "out", "--where")
    assert run(*options, "row > 3").exit_code == 0
    assert "is already complete" in run(*options, "row > 3").stdout
    other = run(*options, "row > 4")
    assert other.exit_code == 2
    assert "where: was row > 3, now row > 4" in other.stderr
    assert run(*options, "row > 4", "--overwrite").exit_code == 0
    assert len(rows_of(tmp_path / "out/kept")) == ROWS - 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nothing to filter by"),
        (("--where", "year > 3"), "there is no column 'year'"),
        (("--where", "cosine_1 > 0.2"), "there is no column 'cosine_1'"),
        (("--prompt", ">= 0.2"), "has no text"),
        (("--prompt", "a dog >= 0,25"), "what follows the sign is no number"),
        (("--prompt", "a dog >= 25"), "a cosine lies between -1 and 1"),
        (("--min-clip-score", "2"), "--min-clip-score"),
        (("--duplicates", "/nowhere"), "make one with `clipmill dedup`"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    embeddings: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    result = run("--embeddings", embeddings, "--output", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_imported_vectors_have_no_model_to_encode_a_prompt(tmp_path: Path) -> None:
    images = np.eye(4, 8, dtype=np.float16)
    write_embeddings(tmp_path / "embeddings", images, images, files=1)
    result = run("--embeddings", tmp_path / "embeddings", "--output", tmp_path / "out", "--prompt", "a dog >= 0.2")
    assert result.exit_code == 2
    assert "made of imported vectors" in result.stderr
    shutil.rmtree(tmp_path / "embeddings")


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ("a dog", Prompt("a dog")),
        ("a dog>=0.25", Prompt("a dog", ">=", 0.25)),
        ("  a dog < -.5 ", Prompt("a dog", "<", -0.5)),
        ("5 > 3 things > 0.2", Prompt("5 > 3 things", ">", 0.2)),
        ("more > than < text", Prompt("more > than < text")),
    ],
)
def test_a_prompt_is_a_text_and_perhaps_a_bound(given: str, prompt: Prompt) -> None:
    assert Prompt.parse(given) == prompt


def test_a_row_without_a_score_keeps_no_bound() -> None:
    assert Prompt("x", "<", 0.5).keeps(np.array([0.4, np.nan, 0.6], np.float32)).tolist() == [True, False, False]
    with pytest.raises(UserError):
        Prompt.parse("  ")
