"""The columns people mean are found, or the error says what to name."""

from typing import Any

import pyarrow as pa
import pytest

from clipmill.core.errors import UserError
from clipmill.source.columns import Columns, choose_columns, with_every_column
from clipmill.source.input_file import InputFile

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def choose(*schemas: dict[str, Any], **options: Any) -> Columns:
    files = [
        InputFile(at, f"file-{at}.parquet", 1, "", 1, (1,), (1,), pa.schema(list(schema.items())))
        for at, schema in enumerate(schemas)
    ]
    return choose_columns(files, **options)


def kept(columns: Columns) -> dict[str, Any]:
    return {name: (field.name, field.type) for name, field in columns.kept}


@pytest.mark.parametrize(
    ("schema", "image", "kind"),
    [
        ({"image": pa.binary()}, "image", "binary"),
        ({"JPG": pa.large_binary()}, "JPG", "binary"),
        ({"img": pa.binary_view()}, "img", "binary"),
        ({"image": PICTURE}, "image", "struct"),
        ({"holiday": PICTURE, "thumb": pa.binary()}, "holiday", "struct"),
        ({"image": pa.string()}, "image", "path"),
        ({"filepath": pa.dictionary(pa.int32(), pa.string())}, "filepath", "path"),
        ({"jpg": pa.binary(), "url": pa.string(), "key": pa.string()}, "jpg", "binary"),
        ({"image": PICTURE, "file_name": pa.string()}, "image", "struct"),
        ({"image_path": pa.string(), "filename": pa.string()}, "image_path", "path"),
    ],
)
def test_the_image_column_is_found_bytes_before_paths(schema: dict[str, Any], image: str, kind: str) -> None:
    columns = choose(schema)
    assert (columns.image_column, columns.image_kind) == (image, kind)


@pytest.mark.parametrize(
    ("name", "kind", "is_list"),
    [
        ("caption", pa.string(), False),
        ("TEXT", pa.large_string(), False),
        ("captions", pa.list_(pa.string()), True),
        ("sentences", pa.large_list(pa.large_string()), True),
        ("description", pa.dictionary(pa.int8(), pa.string()), False),
    ],
)
def test_the_caption_column_is_found(name: str, kind: pa.DataType, is_list: bool) -> None:
    columns = choose({name: kind})
    assert (columns.caption_column, columns.caption_is_list) == (name, is_list)
    assert columns.image_column is None


def test_images_alone_are_enough() -> None:
    assert choose({"image": pa.binary(), "label": pa.string()}).caption_column is None


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"image": pa.binary(), "img": pa.binary()}, ("'image', 'img'", "--image-column")),
        ({"caption": pa.string(), "text": pa.string()}, ("'caption', 'text'", "--caption-column")),
        ({"path": pa.string(), "filename": pa.string()}, ("'path', 'filename'", "--image-column")),
    ],
)
def test_several_candidates_are_named_with_the_option_to_use(schema: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        choose(schema)
    assert all(part in str(caught.value) for part in named)


def test_naming_one_of_several_candidates_settles_it() -> None:
    schema = {"image": pa.binary(), "img": pa.binary(), "caption": pa.string(), "text": pa.string()}
    columns = choose(schema, image_column="img", caption_column="text")
    assert (columns.image_column, columns.caption_column) == ("img", "text")
    assert kept(columns) == {"caption": ("caption", pa.string())}


def test_without_image_and_caption_the_columns_present_are_listed() -> None:
    with pytest.raises(UserError, match=r"'a', 'b' of file-0.parquet.*--image-column"):
        choose({"a": pa.int64(), "b": pa.binary()})


@pytest.mark.parametrize("option", ["image_column", "caption_column", "id_column"])
def test_a_column_that_is_not_there_or_does_not_suit_is_an_error(option: str) -> None:
    schema = {"image": pa.binary(), "caption": pa.string(), "vector": pa.list_(pa.float32())}
    with pytest.raises(UserError, match="no such column; there are 'image', 'caption', 'vector'"):
        choose(schema, **{option: "absent"})
    with pytest.raises(UserError, match=r"'vector' cannot be the .*list<.*float"):
        choose(schema, **{option: "vector"})


def test_the_id_is_the_first_by_preference_and_the_others_travel() -> None:
    columns = choose({"image": pa.binary(), "image_id": pa.int64(), "Key": pa.string(), "id": pa.bool_()})
    assert columns.id_column == "Key"
    assert set(kept(columns)) == {"image_id", "id"}
    assert choose({"image": pa.binary()}).id_column is None


def test_every_scalar_column_travels_and_nothing_else() -> None:
    scalars = {
        "a": pa.int8(),
        "b": pa.float64(),
        "c": pa.bool_(),
        "d": pa.large_string(),
        "e": pa.timestamp("us", "UTC"),
        "f": pa.date32(),
        "g": pa.decimal128(9, 2),
        "h": pa.dictionary(pa.int32(), pa.string()),
    }
    others = {"l": pa.list_(pa.int8()), "s": pa.struct([("x", pa.int8())]), "m": pa.map_(pa.string(), pa.int8())}
    columns = choose({"image": pa.binary(), **scalars, **others, "raw": pa.binary(), "__index_level_0__": pa.int64()})
    plain = {**scalars, "d": pa.string(), "h": pa.string()}
    assert kept(columns) == {name: (name, kind) for name, kind in plain.items()}


def test_the_path_of_an_image_travels_too() -> None:
    assert "image_path" in kept(choose({"image_path": pa.string()}))


def test_keep_columns_narrows_in_the_order_given() -> None:
    schema = {"image": pa.binary(), "a": pa.int8(), "b": pa.int8(), "l": pa.list_(pa.int8())}
    assert list(kept(choose(schema, keep_columns=("b", "a")))) == ["b", "a"]
    assert kept(choose(schema, keep_columns=())) == {}
    with pytest.raises(UserError, match="--keep-columns x: there is no such column"):
        choose(schema, keep_columns=("x",))
    with pytest.raises(UserError, match=r"--keep-columns l: .* not a scalar"):
        choose(schema, keep_columns=("l",))


def test_names_that_collide_with_ours_get_a_prefix_whatever_their_case() -> None:
    schema = {"image": pa.binary(), "key": pa.string(), "id": pa.int8(), "Width": pa.int32(), "source_Width": pa.int8()}
    columns = choose(schema, id_column="key")
    assert {name: output for name, (output, _) in kept(columns).items()} == {
        "id": "source_id",
        "Width": "source_Width",
        "source_Width": "source_source_Width",
    }


def test_files_with_different_columns_are_read_as_their_union() -> None:
    columns = choose(
        {"image": pa.binary(), "a": pa.int32()}, {"caption": pa.string(), "a": pa.int64(), "b": pa.bool_()}
    )
    assert (columns.image_column, columns.caption_column) == ("image", "caption")
    assert kept(columns) == {"a": ("a", pa.int64()), "b": ("b", pa.bool_())}


def test_a_column_of_nulls_goes_with_any_type() -> None:
    columns = choose(
        {"image": pa.null(), "a": pa.null(), "n": pa.null()}, {"image": PICTURE, "a": pa.int8(), "n": pa.null()}
    )
    assert columns.image_kind == "struct"
    assert kept(columns) == {"a": ("a", pa.int8()), "n": ("n", pa.string())}


def test_single_captions_and_lists_go_together() -> None:
    assert choose({"caption": pa.string()}, {"caption": pa.list_(pa.string())}).caption_is_list


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"image": pa.binary()}, {"image": PICTURE}),
        ({"image": pa.binary()}, {"image": pa.string()}),
        ({"image": pa.binary(), "caption": pa.string()}, {"caption": pa.int64()}),
        ({"image": pa.binary(), "a": pa.string()}, {"a": pa.int64()}),
        ({"image": pa.binary(), "id": pa.string()}, {"id": pa.bool_()}),
    ],
)
def test_types_that_cannot_be_unified_are_named_with_both_files(first: dict[str, Any], second: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        choose(first, second)
    assert "file-0.parquet" in str(caught.value)
    assert "file-1.parquet" in str(caught.value)


def test_two_columns_of_one_name_are_refused() -> None:
    schema = pa.schema([("image", pa.binary()), ("a", pa.int8()), ("a", pa.int8())])
    with pytest.raises(UserError, match="several columns called 'a'"):
        choose_columns([InputFile(0, "x.parquet", 1, "", 1, (1,), (1,), schema)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.decimal128(5, 2), pa.float64()),
        (pa.float32(), pa.decimal256(50, 2)),
        (pa.binary(), pa.string()),
        (pa.date32(), pa.timestamp("ns")),
        (pa.timestamp("us", "UTC"), pa.timestamp("us")),
    ],
    ids=str,
)
def test_types_of_which_none_holds_the_values_of_both_are_refused_by_file(
    first: pa.DataType, second: pa.DataType
) -> None:
    files = [
        InputFile(at, f"{at}.parquet", 0, "", 1, (1,), (1,), pa.schema([("caption", pa.string()), ("price", kind)]))
        for at, kind in enumerate((first, second))
    ]
    with pytest.raises(UserError, match=r"column 'price' cannot be kept: it is .* in 0.parquet and .* in 1.parquet"):
        choose_columns(files)


def test_every_other_column_is_kept_nested_ones_and_bytes_too() -> None:
    nested = pa.list_(pa.struct([("word", pa.string()), ("box", pa.list_(pa.int32()))]))
    schema = {
        "key": pa.int64(),
        "jpg": pa.binary(),
        "text": pa.string(),
        "score": pa.float64(),
        "words": nested,
        "mask": pa.binary(),
        "empty": pa.null(),
        "__index_level_0__": pa.int64(),
    }
    files = [InputFile(0, "a.parquet", 1, "", 1, (1,), (1,), pa.schema(list(schema.items())))]
    columns = with_every_column(
        files, choose_columns(files, keep_columns=(), image_column="jpg"), ("row", "id", "score")
    )
    assert kept(columns) == {
        "key": ("key", pa.int64()),
        "score": ("source_score", pa.float64()),
        "words": ("words", nested),
        "mask": ("mask", pa.binary()),
        "empty": ("empty", pa.string()),
    }
    assert (columns.image_column, columns.caption_column, columns.id_column) == ("jpg", "text", "key")


def test_of_pictures_in_files_their_paths_are_kept() -> None:
    schema = pa.schema([("image", pa.string()), ("id", pa.string())])
    files = [InputFile(0, "a.parquet", 1, "", 1, (1,), (1,), schema)]
    columns = with_every_column(files, choose_columns(files, keep_columns=()), ("row", "id", "image"))
    assert kept(columns) == {"image": ("source_image", pa.string())}


def test_nested_columns_of_different_types_are_refused() -> None:
    files = [
        InputFile(at, f"{at}.parquet", 1, "", 1, (1,), (1,), pa.schema([("image", pa.binary()), ("tags", kind)]))
        for at, kind in enumerate([pa.list_(pa.string()), pa.list_(pa.int32())])
    ]
    with pytest.raises(UserError, match="column 'tags' cannot be kept"):
        with_every_column(files, choose_columns(files, keep_columns=()), ())
