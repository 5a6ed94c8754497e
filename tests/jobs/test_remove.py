"""Taking down: what is named is gone from every version that is kept, whatever comes in between, and mistakes are told."""

import hashlib
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipmill.runs.version_run import VersionRun
from clipmill.versions.place import Place
from clipmill.versions.takedown import Takedown, add_removed, read_removed
from clipmill_jobs.__main__ import main

NAMES = ["dog", "cat", "Bird", "été", "fish ", "horse"]


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (number * 37 % 256, number * 91 % 256, 128)).save(stream, "PNG")
    return stream.getvalue()


def write_input(path: Path, numbers: list[int], ids: list[str] | None = None) -> None:
    columns: dict[str, object] = {
        "image": pa.array([picture(number) for number in numbers], pa.binary()),
        "caption": [[f"picture {number}", f"number {number}"] for number in numbers],
    }
    pq.write_table(pa.table(columns if ids is None else {"id": ids, **columns}), path)


def clipmill(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """Publishes an input of six pictures and captions with ids, or without."""

    def publish(*, with_ids: bool = True) -> Path:
        (tmp_path / "in").mkdir()
        write_input(tmp_path / "in/a.parquet", list(range(6)), NAMES if with_ids else None)
        (tmp_path / "run.yaml").write_text(f"output: {tmp_path / 'out'}\nembed:\n  input: {tmp_path / 'in'}\n")
        run(tmp_path)
        return tmp_path

    return publish


def run(folder: Path) -> None:
    result = clipmill("run", folder / "run.yaml")
    assert result.exit_code == 0, result.output


def rows(folder: Path, part: str) -> list[dict[str, object]]:
    current = json.loads((folder / "out/current.json").read_text())["version"]
    files = sorted((folder / "out/runs" / current / "embeddings" / part).glob("*.parquet"))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(found, key=lambda row: row["row"])


def ids(folder: Path, part: str = "images") -> list[object]:
    return [row["id"] for row in rows(folder, part)]


def removed(folder: Path) -> Takedown:
    return read_removed(Place.of(str(folder / "out")))


@pytest.mark.parametrize(
    ("given", "there"),
    [
        (" dog", "dog"),
        ("DOG", "dog"),
        ("bird", "Bird"),
        (unicodedata.normalize("NFD", "été"), "été"),
        ("fish", "fish "),
    ],
)
def test_an_id_that_no_version_holds_is_told_with_what_is_like_it_and_nothing_is_recorded(
    published: Callable[..., Path], given: str, there: str
) -> None:
    folder = published()
    (folder / "ids.txt").write_text(f"cat\n{given}\nunicorn\n", encoding="utf-8")
    result = clipmill("remove", folder / "out", "--ids", folder / "ids.txt")
    assert result.exit_code == 2
    assert f"{given!r} (there is {there!r}), 'unicorn'" in result.output.replace("\n", "")
    assert removed(folder) == Takedown()


def test_what_may_come_later_is_recorded_where_that_is_allowed(published: Callable[..., Path]) -> None:
    folder = published()
    (folder / "ids.txt").write_text("unicorn\n")
    assert clipmill("remove", folder / "out", "--ids", folder / "ids.txt", "--allow-unmatched").exit_code == 0
    write_input(folder / "in/b.parquet", [7, 8], ["unicorn", "whale"])
    run(folder)
    assert ids(folder) == [*NAMES, "whale"]
    assert {row["id"] for row in rows(folder, "rejected")} == {"unicorn"}


def test_ids_made_of_file_and_row_are_refused_and_the_content_takes_their_place(published: Callable[..., Path]) -> None:
    folder = published(with_ids=False)
    (folder / "ids.txt").write_text("a.parquet:2\n")
    for options in ([], ["--allow-unmatched"]):
        result = clipmill("remove", folder / "out", "--ids", folder / "ids.txt", *options)
        assert result.exit_code == 2
        assert "--content FILE" in result.output
    (folder / "picture.png").write_bytes(picture(2))
    assert clipmill("remove", folder / "out", "--content", folder / "picture.png").exit_code == 0
    # the file changes: another picture has the id that the removed one had, and the removed one another id
    write_input(folder / "in/a.parquet", [0, 2, 1, 3, 4, 5, 6])
    run(folder)
    assert ids(folder) == [f"a.parquet:{row}" for row in (0, 2, 3, 4, 5, 6)]
    hashes = {row["image_sha256"] for row in rows(folder, "images")}
    assert hashlib.sha256(picture(2)).digest() not in hashes
    assert "picture 2" not in {row["caption"] for row in rows(folder, "captions")}


def test_content_that_was_taken_down_stays_down_wherever_it_appears_again(published: Callable[..., Path]) -> None:
    folder = published()
    (folder / "hashes.txt").write_text(f"{hashlib.sha256(picture(1)).hexdigest().upper()}  cat.png\n")
    assert clipmill("remove", folder / "out", "--content", folder / "hashes.txt").exit_code == 0
    run(folder)
    assert "cat" not in ids(folder)
    write_input(folder / "in/b.parquet", [1, 9], ["the same cat", "zebra"])
    run(folder)
    assert ids(folder) == [*(name for name in NAMES if name != "cat"), "zebra"]
    assert {row["id"] for row in rows(folder, "rejected")} == {"cat", "the same cat"}


def test_verify_proves_that_nothing_is_left_once_the_versions_from_before_are_pruned(
    published: Callable[..., Path],
) -> None:
    folder = published()
    (folder / "ids.txt").write_text("cat\n")
    (folder / "picture.png").write_bytes(picture(0))
    taken = clipmill("remove", folder / "out", "--ids", folder / "ids.txt", "--content", folder / "picture.png")
    assert taken.exit_code == 0
    assert clipmill("verify", folder / "out").exit_code == 1
    run(folder)
    before = clipmill("verify", folder / "out")
    assert before.exit_code == 1
    assert "hold what was taken down" in before.output
    assert clipmill("prune", folder / "out", "--keep", 5).exit_code == 0
    after = clipmill("verify", folder / "out")
    assert after.exit_code == 0, after.output
    assert "2 ids and contents taken down" in after.output


def test_what_is_taken_down_while_a_run_is_at_work_is_not_published_by_it(
    published: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published()
    write_input(folder / "in/b.parquet", [7], ["whale"])
    judge = VersionRun._judge

    def taking_down(self: VersionRun, made: object) -> object:
        add_removed(Place.of(str(folder / "out")), Takedown(frozenset({"cat"})))
        return judge(self, made)  # type: ignore[arg-type]

    monkeypatch.setattr(VersionRun, "_judge", taking_down)
    result = clipmill("run", folder / "run.yaml")
    assert result.exit_code == 1
    assert "taken down while this run was at work" in result.output
    assert ids(folder) == NAMES
    monkeypatch.undo()
    run(folder)
    assert ids(folder) == [*(name for name in NAMES if name != "cat"), "whale"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--ids FILE, or --content FILE"),
        (["--ids", "nowhere.txt"], "no such file"),
        (["--content", "nowhere.png"], "no such file"),
        (["--content", "/dev/null"], "empty|no such file"),
    ],
)
def test_nothing_to_take_down_is_a_mistake(published: Callable[..., Path], options: list[str], told: str) -> None:
    folder = published()
    result = clipmill("remove", folder / "out", *options)
    assert result.exit_code == 2
    assert any(one in result.output for one in told.split("|"))
