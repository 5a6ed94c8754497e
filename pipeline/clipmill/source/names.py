"""The names that people give to image, caption and id columns, and what names of files end with, all in lower case."""

PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")

# fmt: off
IMAGE_NAMES = frozenset({
    "image", "images", "img", "imgs", "jpg", "jpeg", "png", "webp", "picture", "photo", "photograph", "pixels", "bytes",
    "image_bytes", "img_bytes", "image_data", "image_binary", "image_content",
})
PATH_NAMES = (
    frozenset({
        "image", "images", "img", "image_path", "img_path", "image_file", "img_file", "image_filename", "image_name",
        "image_uri", "jpg", "jpeg", "png", "photo", "picture",
    }),
    frozenset({"filepath", "file_path", "filename", "file_name", "file", "path", "uri"}),
    frozenset({"url", "image_url", "img_url"}),
)
"""Names of columns with paths of images, the more telling ones first."""

CAPTION_NAMES = frozenset({
    "caption", "captions", "text", "texts", "txt", "description", "descriptions", "title", "titles", "sentence",
    "sentences", "alt_text", "alt", "caption_text", "image_caption", "prompt",
})
ID_NAMES = (
    "id", "key", "__key__", "uid", "uuid", "guid", "image_id", "img_id", "imgid", "photo_id", "sample_id", "item_id",
)
"""In order of preference: ids need not be unique, so a second choice does no harm."""
# fmt: on


def is_picture(path: str) -> bool:
    """Whether a file is a picture by its name."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def is_table(path: str) -> bool:
    """Whether a file is a list of pictures that is read in place, by its name."""
    return path.lower().endswith(TABLE_SUFFIXES)
