"""Other formats become source Parquet with nothing lost, whole or not at all."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clipmill import storage
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.manifests import SourceManifest
from clipmill.core.reporter import Silent
from clipmill.core.settings import ImportSettings
from clipmill.source.columns import choose_columns
from clipmill.source.importers import IMPORTERS, writing
from clipmill.source.importers.samples import Collection, Sample
from clipmill.source.importers.writing import Import, make_import, write_samples
from clipmill.source.inputs import find_inputs
from clipmill.stage.stage import Made

Jpeg = Callable[[int], bytes]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def put(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


class Told(Silent):
    """Keeps how many images were done each time that it was told."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        self.done.append(done)


def imported(name: str, source: Path | str, **options: Any) -> list[dict[str, Any]]:
    """Rows of the import, which embed must understand without any option."""
    output = Path(str(source)).parent / "output"
    settings = ImportSettings(source=str(source), output=str(output), overwrite=True, **options)
    told = Told()
    totals: list[int | None] = []

    def read() -> Collection:
        collection = IMPORTERS[name](storage.resolve(source), settings)
        totals.append(collection.total)
        return collection

    manifest = write_samples(make_import(name, settings), read, told).manifest
    rows = rows_of(output)
    columns = choose_columns(find_inputs(str(output)))
    assert (columns.image_column, columns.caption_column, columns.id_column) == ("image", "caption", "id")
    assert told.done[-1] == manifest.rows == len(rows)
    assert totals in ([None], [len(rows)])
    assert manifest.captions == sum(len(row["caption"]) for row in rows)
    assert manifest.missing_images == sum(row["image"]["bytes"] is None for row in rows)
    return rows


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(output.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_coco_pairs_captions_with_images_of_each_split(source: Path, jpeg: Jpeg) -> None:
    for split, first in (("train2017", 1), ("val2017", 7)):
        images = [
            {"id": first + at, "file_name": f"{first + at}.jpg", "license": 3, "coco_url": "http://c/x.jpg"}
            for at in range(2)
        ]
        texts = [(first + 1, "b"), (first, "a"), (first + 1, "c")]
        annotations = [{"id": at, "image_id": image, "caption": text} for at, (image, text) in enumerate(texts)]
        put(source, {f"annotations/captions_{split}.json": json.dumps({"images": images, "annotations": annotations})})
        put(source, {f"{split}/{first}.jpg": jpeg(first)})
    put(source, {"annotations/instances_val2017.json": "{}"})
    rows = imported("coco", source)
    assert [(row["id"], row["caption"], row["split"]) for row in rows] == [
        ("1", ["a"], "train2017"),
        ("2", ["b", "c"], "train2017"),
        ("7", ["a"], "val2017"),
        ("8", ["b", "c"], "val2017"),
    ]
    assert rows[2]["image"] == {"bytes": jpeg(7), "path": "7.jpg"}
    assert rows[3]["image"] == {"bytes": None, "path": f"{source}/val2017/8.jpg"}
    assert [row["id"] for row in imported("coco", source, split="val2017")] == ["7", "8"]


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"x.json": "{}"}, {}, "no annotations/captions_"),
        ({"annotations/captions_a.json": '{"images": ['}, {}, "captions_a.json is not valid JSON"),
        ({"annotations/captions_a.json": '{"images": []}'}, {}, "no list 'annotations'"),
        ({"annotations/captions_a.json": '{"images": [{"id": 1}], "annotations": []}'}, {}, "no list 'images'"),
        ({"annotations/captions_a.json": '{"images": [], "annotations": []}'}, {"split": "b"}, "there are a"),
        ({"annotations/captions_a.json": '{"images": [], "annotations": []}'}, {}, "not one sample"),
    ],
)
def test_coco_that_is_not_coco_is_told(source: Path, files: dict[str, str], options: dict[str, str], said: str) -> None:
    put(source, dict(files))
    with pytest.raises(UserError, match=said):
        imported("coco", source, **options)
    assert {path.name for path in source.parent.iterdir()} == {"source"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Flickr8k_text/Flickr8k.token.txt", "a.jpg#0\tone, two\na.jpg#1\tthree\nb.jpg.1#0\tfour\n"),
        ("captions.txt", 'image,caption\na.jpg,"one, two"\na.jpg,three\nb.jpg.1,four\n'),
        ("captions.txt", "image,caption\na.jpg,one, two\na.jpg,three\nb.jpg.1,four\n"),
        ("results.csv", "image_name| comment_number| comment\na.jpg| 0| one, two\na.jpg| 1 three\nb.jpg.1| 0| four\n"),
    ],
)
def test_flickr8k_is_read_in_each_of_its_forms(source: Path, jpeg: Jpeg, name: str, text: str) -> None:
    put(source, {name: text, "Flicker8k_Dataset/a.jpg": jpeg(1), "Flickr_8k.trainImages.txt": "a.jpg\n"})
    first, second = imported("flickr8k", source)
    assert (first["id"], first["split"], first["image"]["bytes"]) == ("a", "train", jpeg(1))
    assert [caption.replace(" ,", ",") for caption in first["caption"]] in (["one, two", "three"], ["one,two", "three"])
    assert (second["caption"], second["split"], second["image"]["bytes"]) == (["four"], None, None)
    assert second["image"]["path"].endswith("Flicker8k_Dataset/b.jpg.1")
    assert [row["id"] for row in imported("flickr8k", source, split="train")] == ["a"]


def test_flickr8k_lines_that_cannot_be_read_are_named(source: Path) -> None:
    put(source, {"Flickr8k.token.txt": "a.jpg#0\tone\na.jpg#1 two\n"})
    with pytest.raises(UserError, match=r"token\.txt, line 2: there is no tab"):
        imported("flickr8k", source)
    (source / "Flickr8k.token.txt").rename(source / "other.txt")
    with pytest.raises(UserError, match="none of Flickr8k"):
        imported("flickr8k", source)


def test_a_folder_gives_captions_beside_images_and_labels(source: Path, jpeg: Jpeg) -> None:
    put(
        source,
        {
            "cats/1.jpg": jpeg(1),
            "cats/1.txt": "\ufeffa cat\n\n  two cats \r\n",
            "dogs/deep/2.PNG": jpeg(2),
            "3.jpeg": jpeg(3),
            "3.txt": "",
            "notes.txt": "no image",
            ".hidden/4.jpg": jpeg(4),
            "_5.jpg": jpeg(5),
        },
    )
    rows = imported("folder", source)
    assert [(row["id"], row["label"], row["caption"]) for row in rows] == [
        ("3", None, []),
        ("cats/1", "cats", ["a cat", "two cats"]),
        ("dogs/deep/2", "dogs", []),
    ]
    assert rows[1]["image"] == {"bytes": jpeg(1), "path": "cats/1.jpg"}


def test_a_folder_without_images_is_told(source: Path) -> None:
    put(source, {"a.txt": "x"})
    with pytest.raises(UserError, match="no image below"):
        imported("folder", source)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_csv_lines_of_one_image_become_one_row(source: Path, jpeg: Jpeg, delimiter: str) -> None:
    lines = [
        ["file_name", "caption", "score", "title", "id"],
        ["p/a.jpg", '"a, ""b""\nand c"', "1.5", "t", "9"],
        ["b.jpg", "d", "2", "", "8"],
        ["p/a.jpg", "e", "7", "u", "7"],
        ["", "f", "3", "v", "6"],
        ["b.jpg", "", "", "", ""],
    ]
    put(source, {"x.csv": "\n".join(delimiter.join(line) for line in lines) + "\n", "p/a.jpg": jpeg(1)})
    rows = imported("csv", source / "x.csv", caption_column="caption")
    assert [(row["id"], row["caption"], row["score"]) for row in rows] == [
        ("p/a.jpg", ['a, "b"\nand c', "e"], 1.5),
        ("b.jpg", ["d", None], 2.0),
        ("x.csv:4", ["f"], 3.0),
    ]
    assert (rows[0]["source_title"], rows[0]["source_id"]) == ("t", 9)
    assert rows[0]["image"]["bytes"] == jpeg(1)
    assert rows[1]["image"] == {"bytes": None, "path": f"{source}/b.jpg"}
    assert rows[2]["image"]["bytes"] is None


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "no header line"),
        ("a,b\n1,2\n", {}, "no column of image paths among 'a', 'b'"),
        ("image,caption,text\nx,y,z\n", {}, "several columns could be the caption: caption, text"),
        ("image,caption\nx,y\nx,y,z\n", {}, "Expected 2 columns, got 3"),
        ("image,caption\nx,y\n", {"image_column": "photo"}, "--image-column photo: .* no such column"),
        ('image,caption\nx,"a\nb"\ny,"a dog\nz,b\n', {}, "a quote that is opened in line 4 is not closed"),
        ('image,caption\nx,a\ny,"', {}, "opened in line 3 is not closed"),
        ('image,caption\nx,a\ny,"' + "long\n" * 40_000, {}, "a value in line 3 has more than .* not closed"),
        ("image,a,a\nx,y,z\n", {}, "several columns are called 'a'"),
        ("url,caption\nhttps://e.org/x.jpg,y\n", {}, "img2dataset"),
    ],
)
def test_csv_mistakes_are_told(source: Path, text: str, options: dict[str, str], said: str) -> None:
    put(source, {"x.csv": text})
    with pytest.raises(UserError, match=said):
        imported("csv", source / "x.csv", **options)


def test_csv_quotes_within_values_and_files_without_a_last_newline_are_taken(source: Path) -> None:
    put(source, {"x.csv": 'image,caption\na.jpg,a 5" nail\nb.jpg,"say ""hi"""'})
    rows = imported("csv", source / "x.csv")
    assert [row["caption"] for row in rows] == [['a 5" nail'], ['say "hi"']]


def test_csv_that_is_not_there_or_a_folder_is_told(source: Path) -> None:
    for path in (source, source / "absent.csv"):
        with pytest.raises(UserError, match=r"no such file|not its folder"):
            imported("csv", path)


def tar(files: dict[str, bytes | str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def test_webdataset_groups_neighbours_and_carries_scalar_fields(source: Path, jpeg: Jpeg) -> None:
    first = tar(
        {
            "000.jpg": jpeg(0),
            "000.txt": "a cat ",
            "000.json": json.dumps(
                {"caption": "not this", "width": 4, "ok": True, "score": 1, "tags": [1], "key": "000"}
            ),
            "sub/001.json": json.dumps({"captions": ["b", "c"], "score": 0.5, "width": None, "ok": None, "key": 5}),
            "sub/001.webp": jpeg(1),
            "002.txt": "no image",
        }
    )
    second = tar(
        {"003.cls": "7\n", "003.PNG": jpeg(3), "003.json": json.dumps({"width": "wide", "new": 1, "key": "z"})}
    )
    put(source, {"s-1.tar": second, "s-0.tar": first, "readme.txt": "x"})
    rows = imported("webdataset", source)
    assert [(row["id"], row["caption"], row["shard"]) for row in rows] == [
        ("000", ["a cat"], "s-0.tar"),
        ("sub/001", ["b", "c"], "s-0.tar"),
        ("002", ["no image"], "s-0.tar"),
        ("003", [], "s-1.tar"),
    ]
    assert [row["width"] for row in rows] == [4, None, None, None]
    assert [row["score"] for row in rows] == [1.0, 0.5, None, None]
    assert [row["ok"] for row in rows] == [True, None, None, None]
    assert [row["key"] for row in rows] == ["000", "5", None, "z"]
    assert [row["cls"] for row in rows] == [None, None, None, "7"]
    assert [row["image"]["bytes"] for row in rows] == [jpeg(0), jpeg(1), None, jpeg(3)]
    assert [row["id"] for row in imported("webdataset", source / "s-1.tar")] == ["003"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not a tar at all" * 100, "a.tar is not a tar archive"),
        (b"", "a.tar is not a tar archive"),
        (tar({"0.jpg": b"x" * 5000, "1.jpg": b"x" * 5000})[:8000], r"cut short near 1\.jpg"),
        (tar({"0.json": "{"}), r"0\.json is not valid JSON"),
    ],
)
def test_broken_shards_are_named_and_nothing_is_published(source: Path, data: bytes, said: str) -> None:
    put(source, {"a.tar": data})
    with pytest.raises(UserError, match=said):
        imported("webdataset", source)
    assert {path.name for path in source.parent.iterdir()} == {"source"}


@pytest.mark.parametrize("name", ["coco", "flickr8k", "folder"])
def test_a_file_in_the_place_of_a_folder_is_told(source: Path, name: str) -> None:
    put(source, {"x.csv": "image,caption"})
    with pytest.raises(UserError, match="is a file"):
        imported(name, source / "x.csv")


def test_a_folder_without_shards_is_told(source: Path) -> None:
    put(source, {"a.txt": "x"})
    with pytest.raises(UserError, match=r"no \.tar shard"):
        imported("webdataset", source)


def some(count: int, size: int = 10) -> Collection:
    return Collection(
        (), (Sample(str(at), f"{at}.jpg", b"GIF89a" + bytes(size - 6), ("a", "b")) for at in range(count)), count
    )


def write_to(output: Path, collection: Collection, *, overwrite: bool = False) -> Made[SourceManifest]:
    """An import of a source that changes with the number of its samples."""
    settings = ImportSettings(source="elsewhere", output=str(output), overwrite=overwrite)
    return write_samples(Import(settings, "folder", str(collection.total)), lambda: collection, Silent())


def test_output_is_cut_into_files_and_row_groups_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ROW_GROUP_BYTES", 1000)
    monkeypatch.setattr(writing, "FILE_BYTES", 3000)
    written = write_to(tmp_path / "out", some(100, size=100)).manifest
    assert (written.rows, written.captions) == (100, 200)
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [file.name for file in files] == [file.path for file in written.files]
    assert len(files) > 2
    assert all(pq.ParquetFile(file).metadata.row_group(0).num_rows == 10 for file in files)
    assert [row["id"] for file in files for row in pq.read_table(file).to_pylist()] == [str(at) for at in range(100)]


def test_an_earlier_import_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first = write_to(tmp_path / "out", some(3))
    again = write_to(tmp_path / "out", some(3))
    assert (first.already, again.already, again.manifest) == (False, True, first.manifest)
    with pytest.raises(OutputDiffers, match=r"the files of elsewhere have changed since; .*--overwrite"):
        write_to(tmp_path / "out", some(5))
    write_to(tmp_path / "out", some(5), overwrite=True)
    assert len(rows_of(tmp_path / "out")) == 5


def test_other_settings_are_refused_and_named(source: Path, jpeg: Jpeg) -> None:
    put(source, {"a.jpg": jpeg(1), "x.csv": "image,text,said\na.jpg,b,c\n"})
    output = str(source.parent / "output")

    def bring(**options: Any) -> Made[SourceManifest]:
        settings = ImportSettings(source=str(source / "x.csv"), output=output, **options)
        return write_samples(
            make_import("csv", settings), lambda: IMPORTERS["csv"](storage.resolve(settings.source), settings), Silent()
        )

    assert not bring(caption_column="text").already
    with pytest.raises(OutputDiffers, match=r"caption column: was text, now said; .*--overwrite"):
        bring(caption_column="said")
    assert bring(caption_column="text").already


def test_parquet_without_a_manifest_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_to(tmp_path / "out", some(3))
    (tmp_path / "out/manifest.json").unlink()
    with pytest.raises(UserError, match=r"holds Parquet files already, without the manifest .*--overwrite"):
        write_to(tmp_path / "out", some(3))
    assert not write_to(tmp_path / "out", some(3), overwrite=True).already
    assert write_to(tmp_path / "out", some(3)).already


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_bytes(b"x")
    for overwrite in (True, False):
        with pytest.raises(UserError, match=r"thesis\.doc"):
            write_to(tmp_path, some(3), overwrite=overwrite)
    with pytest.raises(UserError, match=r"thesis\.doc"):
        write_to(tmp_path / "thesis.doc", some(3), overwrite=True)
    assert (tmp_path / "thesis.doc").exists()


def test_an_import_that_fails_leaves_the_old_one_and_no_staging(tmp_path: Path) -> None:
    def failing() -> Any:
        yield from some(2000).samples
        raise UserError("half way")

    write_to(tmp_path / "out", some(3))
    with pytest.raises(UserError, match="half way"):
        write_to(tmp_path / "out", Collection((), failing(), None), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(rows_of(tmp_path / "out")) == 3


def test_objects_are_imported_and_written_like_files(bucket: Any, jpeg: Jpeg) -> None:
    bucket.put_object(Bucket="photos", Key="in/cats/a b.jpg", Body=jpeg(1))
    bucket.put_object(Bucket="photos", Key="in/cats/a b.txt", Body=b"a cat")
    settings = ImportSettings(source="s3://photos/in", output="s3://photos/out")

    def read() -> Collection:
        return IMPORTERS["folder"](storage.resolve(settings.source), settings)

    assert not write_samples(make_import("folder", settings), read, Silent()).already
    (row,) = storage.read_table(storage.resolve(settings.output) / "part-00000.parquet").to_pylist()
    assert row == {
        "id": "cats/a b",
        "image": {"bytes": jpeg(1), "path": "cats/a b.jpg"},
        "caption": ["a cat"],
        "label": "cats",
    }
    assert write_samples(make_import("folder", settings), read, Silent()).already


def ways_out(form: str, source: Path, path: str) -> Path:
    """A source of this format that names one image by ``path``, and what is given to the import."""
    document = {"images": [{"id": 1, "file_name": path}], "annotations": [{"image_id": 1, "caption": "a"}]}
    files = {
        "csv": {"x.csv": f"image,caption\n{path},a\n"},
        "coco": {"annotations/captions_val.json": json.dumps(document), "val/other.jpg": "x"},
        "flickr8k": {"captions.txt": f"image,caption\n{path},a\n", "Images/other.jpg": "x"},
    }
    put(source, dict(files[form]))
    return source / "x.csv" if form == "csv" else source


@pytest.mark.parametrize("form", ["csv", "coco", "flickr8k"])
@pytest.mark.parametrize("way", ["{up}/outside/secret.jpg", "{outside}/secret.jpg", "link.jpg", "linked/secret.jpg"])
def test_an_image_outside_of_the_source_is_taken_only_where_that_is_allowed(
    source: Path, jpeg: Jpeg, form: str, way: str
) -> None:
    outside = source.parent / "outside"
    put(outside, {"secret.jpg": jpeg(5)})
    folder = source / {"csv": "", "coco": "val", "flickr8k": "Images"}[form]
    put(folder, {"0.jpg": jpeg(0)})
    (folder / "link.jpg").symlink_to(outside / "secret.jpg")
    (folder / "linked").symlink_to(outside)
    deep = 1 if form == "csv" else 2
    given = ways_out(form, source, way.format(up="/".join([".."] * deep), outside=outside))
    (row,) = imported(form, given)
    assert row["image"]["bytes"] is None
    assert row["caption"] == ["a"]
    if form == "csv" or not way.startswith("{outside}"):  # the names of the others are always below their folders
        (row,) = imported(form, given, allow_outside=(str(outside),))
        assert row["image"]["bytes"] == jpeg(5)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("folder", "a.txt"),
        ("flickr8k", "captions.txt"),
        ("flickr8k", "x.trainImages.txt"),
        ("coco", "annotations/captions_val.json"),
        ("webdataset", "x.tar"),
    ],
)
def test_a_file_of_captions_that_is_a_link_out_of_the_source_is_refused(
    source: Path, jpeg: Jpeg, form: str, name: str
) -> None:
    put(source, {"a.jpg": jpeg(1), "annotations/0": ""})
    if name.startswith("x.train"):
        put(source, {"captions.txt": "image,caption\na.jpg,a\n"})
    put(source.parent / "outside", {"secret": "secret"})
    (source / name).symlink_to(source.parent / "outside/secret")
    with pytest.raises(UserError, match=f"{name} .*--allow-outside .*outside"):
        imported(form, source)


def test_a_link_out_of_a_folder_is_taken_only_where_that_is_allowed(source: Path, jpeg: Jpeg) -> None:
    put(source.parent / "outside", {"secret.jpg": jpeg(5)})
    (source / "a.jpg").symlink_to(source.parent / "outside/secret.jpg")
    put(source, {"b.jpg": jpeg(6)})
    assert [row["image"]["bytes"] for row in imported("folder", source)] == [None, jpeg(6)]
    rows = imported("folder", source, allow_outside=(str(source.parent / "outside"),))
    assert [row["image"]["bytes"] for row in rows] == [jpeg(5), jpeg(6)]


@pytest.mark.parametrize("form", ["csv", "coco", "flickr8k", "folder", "webdataset"])
def test_bytes_that_are_no_image_are_never_stored(source: Path, form: str) -> None:
    secret = b"root:x:0:0:secret"
    put(source, {"val/p.jpg": secret, "Images/p.jpg": secret, "p.jpg": secret})
    if form == "webdataset":
        put(source, {"x.tar": tar({"p.jpg": secret, "p.txt": "a"})})
    given = ways_out(form, source, "p.jpg") if form in ("csv", "coco", "flickr8k") else source
    rows = imported(form, given)
    assert rows
    assert all(row["image"]["bytes"] is None for row in rows)
    for path in (source.parent / "output").rglob("*"):
        assert secret not in path.read_bytes()


def test_an_import_that_may_read_elsewhere_is_another_one(source: Path, jpeg: Jpeg) -> None:
    put(source, {"a.jpg": jpeg(1)})
    imported("folder", source)
    output = str(source.parent / "output")
    settings = ImportSettings(source=str(source), output=output, allow_outside=("/nowhere",))
    with pytest.raises(OutputDiffers, match="allow outside"):
        make_import("folder", settings).finished()
    plain = ImportSettings(source=str(source), output=output)
    manifest = make_import("folder", plain).finished()
    assert manifest is not None
    older = {key: value for key, value in manifest.configuration.items() if key != "allow_outside"}
    assert make_import("folder", plain).differences(manifest.model_copy(update={"configuration": older})) == []
