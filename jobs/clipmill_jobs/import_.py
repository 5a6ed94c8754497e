"""clipmill import: datasets and vectors in other people's formats to ours."""

from collections.abc import Callable
from typing import Any

import click

from clipmill import storage
from clipmill.core.settings import ImportSettings, ImportVectorsSettings, build
from clipmill_jobs.command import Job, print_json, progress

_FORMATS = {
    "coco": (
        "COCO captions: a folder with annotations/captions_*.json and the image folders beside it.",
        "clipmill import coco coco/ --split val2017 --output coco-val/",
    ),
    "flickr8k": (
        "Flickr8k or Flickr30k: a folder with the captions file (Flickr8k.token.txt, captions.txt or results.csv) and "
        "the images.",
        "clipmill import flickr8k flickr8k/ --split test --output flickr8k-test/",
    ),
    "folder": (
        "A folder of images: a .txt file of the same name has the captions, one a line; the first sub-folder becomes the "
        "column `label`.",
        "clipmill import folder photos/ --output photos-parquet/",
    ),
    "csv": (
        "A CSV or TSV file with a caption a line; the lines of one image become one row. Image paths are relative to the "
        "file.",
        "clipmill import csv captions.csv --output captions-parquet/",
    ),
    "webdataset": (
        "WebDataset: one .tar shard or a folder of them, with key.jpg, key.txt and key.json.",
        "clipmill import webdataset shards/ --output shards-parquet/",
    ),
}
_SHORT = {
    "coco": "COCO captions.",
    "flickr8k": "Flickr8k and Flickr30k.",
    "folder": "A folder of images with .txt files.",
    "csv": "A CSV or TSV file of image paths and captions.",
    "webdataset": "WebDataset .tar shards.",
}
_OPTIONS = {
    "split": ("coco", "flickr8k"),
    "image_column": ("csv",),
    "caption_column": ("csv",),
}
_HELP = {
    "split": "Take one split only. Default: all.",
    "image_column": "Column with the image paths. Default: found by its name.",
    "caption_column": "Column with the captions. Default: found by its name.",
}


@click.group("import")
def command() -> None:
    """Bring COCO, Flickr8k, folders, CSV, WebDataset or vectors into our formats.

    All but `vectors` write Parquet for `clipmill embed`: id, image, caption (a list) and the source's other columns. An
    image that is missing keeps its row, and ends as a reject when it is embedded. `vectors` writes an embeddings
    dataset, ready for `clipmill index` and `clipmill evaluate`.
    """


def _add_format(name: str, description: str, example: str) -> None:
    def run(as_json: bool, **options: Any) -> None:
        _import_samples(name, build(ImportSettings, options), as_json)

    decorators: list[Callable[[Any], Any]] = [
        click.argument("source", metavar="SRC"),
        click.option("--output", required=True, help="Folder to make, local or s3://."),
        *(
            click.option(f"--{option.replace('_', '-')}", help=_HELP[option])
            for option, formats in _OPTIONS.items()
            if name in formats
        ),
        click.option("--overwrite", is_flag=True, help="Replace an earlier import, once the new one is complete."),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON summary to stdout."),
    ]
    for decorator in reversed(decorators):
        run = decorator(run)
    help_text = f"{description}\n\n\b\nExample:\n  {example}"
    job = click.command(f"import {name}", cls=Job, help=help_text, short_help=_SHORT[name])(run)
    command.add_command(job, name)


def _import_samples(name: str, settings: ImportSettings, as_json: bool) -> None:
    from clipmill.source.importers import IMPORTERS
    from clipmill.source.importers.writing import require_free, write_samples

    output = storage.resolve_output(settings.output)
    require_free(output, overwrite=settings.overwrite)
    collection = IMPORTERS[name](storage.resolve(settings.source), settings)
    with progress(collection.total, "images", f"import {name}") as advance:
        written = write_samples(collection, output, overwrite=settings.overwrite, progress=advance)
    if as_json:
        print_json({"output": settings.output, **vars(written)})
        return
    click.echo(
        f"{settings.output}: {written.samples:,} images and {written.captions:,} captions in {written.files} files"
    )
    if written.missing_images:
        click.echo(f"{written.missing_images:,} image files are missing: their rows are there, without an image")


@click.command("import vectors", cls=Job)
@click.option("--images", required=True, help="A .npy file of image vectors (n, d), or a folder of them.")
@click.option("--texts", help="A .npy file of text vectors, or a folder of them.")
@click.option("--text-image", help="A .npy file: the image row of every text. Default: row i belongs to row i.")
@click.option("--metadata", help="CSV, Parquet or a folder of Parquet: a row an image, or a row a text.")
@click.option("--caption-column", help="Column of the metadata with the texts. Default: found by its name.")
@click.option("--id-column", help="Column of the metadata with ids. Default: id, key, uid …, else file and row.")
@click.option("--output", required=True, help="Where the embeddings dataset is published.")
@click.option("--overwrite", is_flag=True, help="Replace a finished output, once the new one is complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def vectors(as_json: bool, **options: Any) -> None:
    """Bring vectors made elsewhere into an embeddings dataset.

    Vectors are divided by their length and stored as float16; those that are zero or not finite become rejects. Folders
    are read in natural order, as clip-retrieval writes them (img_emb_0.npy, img_emb_1.npy, …).

    \b
    Examples:
      clipmill import vectors --images img.npy --texts txt.npy --metadata captions.csv --output embeddings/
      clipmill import vectors --images img_emb/ --texts text_emb/ --metadata metadata/ --output embeddings/
    """
    from clipmill.source.importers.vectors import import_vectors

    settings = build(ImportVectorsSettings, options)
    manifest, already = import_vectors(settings, lambda total: progress(total, "vectors", "import vectors"))
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    counts = manifest.counts
    rejected = counts.rejected_images + counts.rejected_captions
    what = "is already complete:" if already else "has"
    click.echo(
        f"{settings.output} {what} {counts.images:,} images and {counts.captions:,} captions, {rejected:,} rejected"
    )


for _name, (_description, _example) in _FORMATS.items():
    _add_format(_name, _description, _example)
command.add_command(vectors, "vectors")

if __name__ == "__main__":
    command()
