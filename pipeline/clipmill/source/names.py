"""The names that people give to columns of images, sounds, videos, captions and ids, and what names of files end with, all in
lower case."""

PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
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

AUDIO_NAMES = frozenset({
    "audio", "audios", "sound", "sounds", "wav", "flac", "mp3", "ogg", "opus", "audio_bytes", "audio_data", "audio_path",
    "audio_file", "audio_filename", "audio_uri", "sound_path", "sound_file", "wav_path", "wav_file",
})
VIDEO_NAMES = frozenset({
    "video", "videos", "mp4", "webm", "mkv", "mov", "film", "video_bytes", "video_data", "video_path", "video_file",
    "video_filename", "video_uri", "film_path", "film_file",
})
"""Of columns with bytes or with paths."""

CAPTION_NAMES = frozenset({
    "caption", "captions", "text", "texts", "txt", "description", "descriptions", "title", "titles", "sentence",
    "sentences", "alt_text", "alt", "caption_text", "image_caption", "prompt",
})
ID_NAMES = (
    "id", "key", "__key__", "uid", "uuid", "guid", "image_id", "img_id", "imgid", "photo_id", "sample_id", "item_id",
)
"""In order of preference: ids need not be unique, so a second choice does no harm."""
# fmt: on


MEDIA_SUFFIXES = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES}
ITEMS = {"image": "picture", "audio": "sound", "video": "video"}
"""What one of each medium is called."""


def medium_of(path: str) -> str | None:
    """Whether a file is a picture (``image``), a sound (``audio``) or a ``video``, by its name; None for any other."""
    return next((name for name, suffixes in MEDIA_SUFFIXES.items() if path.lower().endswith(suffixes)), None)


def is_table(path: str) -> bool:
    """Whether a file is a list of pictures that is read in place, by its name."""
    return path.lower().endswith(TABLE_SUFFIXES)
