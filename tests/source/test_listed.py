"""Folders of pictures and lists of them are source files: a row a picture, in an order that lasts, read where they lie."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipmill
from clipmill.core.errors import UserError
from clipmill.source.input_file import InputFile
from clipmill.source.inputs import find_inputs
from clipmill.source.listed import part_of


def picture(colour: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 16), (colour, 90, 255 - colour)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five pictures in two folders and none, of which one has captions beside it."""
    folder = tmp_path / "photos"
    for name in ("b/2.jpg", "b/10.jpg", "a/deep/er.PNG", "ä.jpeg", "a/x.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(len(name) * 9, "PNG" if name.endswith("PNG") else "JPEG"))
    (folder / "b/2.txt").write_text("a first caption\n\n a second \n")
    (folder / "notes.md").write_text("not for embedding")
    (folder / ".hidden.jpg").write_bytes(picture(1))
    return folder


def rows_of(file: InputFile) -> list[dict[str, Any]]:
    assert file.listed is not None
    rows: list[dict[str, Any]] = file.listed.to_pylist()
    return rows


def test_a_folder_is_its_pictures_in_byte_order_of_their_paths(photos: Path) -> None:
    [file] = find_inputs(str(photos))
    rows = rows_of(file)
    assert [row["path"] for row in rows] == ["a/deep/er.PNG", "a/x.jpg", "b/10.jpg", "b/2.jpg", "ä.jpeg"]
    assert [row["id"] for row in rows] == [row["path"] for row in rows]
    assert [row["label"] for row in rows] == ["a", "a", "b", "b", None]
    assert [row["caption"] for row in rows] == [None, None, None, ["a first caption", "a second"], None]
    assert (file.path, file.rows) == (f"{photos}/*", 5)


def test_a_pattern_takes_what_it_matches(photos: Path) -> None:
    [file] = find_inputs(f"{photos}/b/*.jpg")
    assert [row["path"] for row in rows_of(file)] == ["10.jpg", "2.jpg"]


@pytest.mark.parametrize("change", ["bytes", "caption", "gone", "more"])
def test_any_change_of_a_picture_is_another_version_of_the_folder(photos: Path, change: str) -> None:
    [before] = find_inputs(str(photos))
    [again] = find_inputs(str(photos))
    if change == "bytes":
        (photos / "a/x.jpg").write_bytes(picture(200))
    elif change == "caption":
        (photos / "b/2.txt").write_text("another")
    elif change == "gone":
        (photos / "b/10.jpg").unlink()
    else:
        (photos / "b/11.jpg").write_bytes(picture(3))
    [after] = find_inputs(str(photos))
    assert again.etag == before.etag != after.etag


def test_parquet_comes_first_where_both_are(photos: Path) -> None:
    pq.write_table(find_inputs(str(photos))[0].listed, photos / "list.parquet")
    [file] = find_inputs(str(photos))
    assert file.path.endswith("list.parquet")
    assert file.listed is None


def test_a_task_is_given_no_more_of_a_list_than_it_reads(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03d}.jpg").write_bytes(b"x")
    [file] = find_inputs(str(tmp_path))
    part = part_of(file, 70, 130)
    assert part.listed is not None
    assert part.listed_from <= 70
    assert part.listed_from + part.listed.num_rows >= 130
    assert part.listed.num_rows < 200
    assert part.listed.column("path")[70 - part.listed_from].as_py() == "070.jpg"


@pytest.mark.parametrize(
    ("name", "text", "paths", "captions"),
    [
        ("l.csv", "path,caption,price\na/x.jpg,one,1\nb/2.jpg,two,2\na/x.jpg,uno,3\n", 2, [["one", "uno"], ["two"]]),
        ("l.tsv", "image\ttext\na/x.jpg\tone\n", 1, ["one"]),
        ("l.jsonl", '{"file_name":"a/x.jpg","text":"one"}\n{"file_name":"b/2.jpg","text":"two"}\n', 2, ["one", "two"]),
        ("l.ndjson", '{"path":"a/x.jpg","captions":["one","two"]}\n', 1, [["one", "two"]]),
    ],
)
def test_a_list_is_embedded_as_it_lies(
    photos: Path, tmp_path: Path, name: str, text: str, paths: int, captions: list[Any]
) -> None:
    (photos / name).write_text(text)
    [file] = find_inputs(str(photos / name))
    [caption] = [column for column in ("caption", "captions", "text") if column in file.schema.names]
    assert [row[caption] for row in rows_of(file)] == captions
    manifest = clipmill.embed(photos / name, tmp_path / "e")
    assert (manifest.counts.images, manifest.counts.rejected_images) == (paths, 0)
    assert manifest.counts.captions == sum(len(one) if isinstance(one, list) else 1 for one in captions)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "x.jpg").write_bytes(picture(1)) and folder / "x.jpg", "search --image"),
        (lambda folder: (folder / "l.csv").write_text("path,caption\n") and folder / "l.csv", "not one row"),
        (lambda folder: (folder / "l.jsonl").write_text("{no json}\n") and folder / "l.jsonl", "one JSON object"),
        (lambda folder: (folder / "l.csv").write_text("path\nx.jpg\n") and folder, "name the list itself: /"),
        (lambda folder: (folder / "x.txt").write_text("text") and folder, "neither a Parquet file nor an Arrow file"),
    ],
)
def test_what_cannot_be_embedded_is_told_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        find_inputs(str(make(tmp_path)))


def test_pictures_outside_of_the_folder_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(picture(5))
    inside = tmp_path / "photos"
    inside.mkdir()
    (inside / "x.jpg").write_bytes(picture(6))
    (inside / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (inside / "l.csv").write_text("path\nx.jpg\n../secret.jpg\n")
    for source in (inside, inside / "l.csv"):
        manifest = clipmill.embed(source, tmp_path / f"e-{source.name}")
        assert manifest.counts.images == 1
        assert manifest.counts.rejected_by_reason == {"outside_of_input": 1}


def test_a_folder_is_embedded_whole_and_proved(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"no picture")
    manifest = clipmill.embed(photos, tmp_path / "e")
    assert (manifest.counts.images, manifest.counts.rejected_images, manifest.counts.captions) == (5, 1, 2)
    assert "path" in manifest.kept_columns
    listing = pq.read_table(tmp_path / "e/listing.parquet").to_pylist()
    assert [row["row"] for row in listing] == list(range(6))
    assert clipmill.verify(tmp_path / "e")[0].whole
    assert clipmill.embed(photos, tmp_path / "e").runs == manifest.runs, "it was complete"


def test_verify_notices_a_listing_that_was_altered(photos: Path, tmp_path: Path) -> None:
    clipmill.embed(photos, tmp_path / "e")
    place = tmp_path / "e/listing.parquet"
    pq.write_table(pq.read_table(place).slice(1), place)
    assert any("listing.parquet" in fault for fault in clipmill.verify(tmp_path / "e")[0].faults)
    assert json.loads((tmp_path / "e/manifest.json").read_text())["listing_sha256"]


def test_a_prefix_of_pictures_is_a_folder(bucket: Any, tmp_path: Path) -> None:
    for name in ("pics/b/2.jpg", "pics/a 1.png", "pics/_hidden.jpg", "other.jpg"):
        bucket.put_object(Bucket="photos", Key=name, Body=picture(40, "PNG" if name.endswith("png") else "JPEG"))
    bucket.put_object(Bucket="photos", Key="pics/b/2.txt", Body=b"a caption")
    for uri in ("s3://photos/pics", "s3://photos/pics/"):
        [file] = find_inputs(uri)
        assert [row["path"] for row in rows_of(file)] == ["a 1.png", "b/2.jpg"]
        assert file.path == "s3://photos/pics/*"
    manifest = clipmill.embed("s3://photos/pics", tmp_path / "e")
    assert (manifest.counts.images, manifest.counts.rejected_images, manifest.counts.captions) == (2, 0, 1)
