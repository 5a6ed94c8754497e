"""clipmill import: datasets and vectors in other people's formats to ours."""

import shlex

import click

from clipmill.core.settings import ClusterSettings, ImportSettings, ImportVectorsSettings, ModelSettings
from clipmill_jobs.command import Group, Job, print_json
from clipmill_jobs.options import WITHOUT_ENCODERS, settings_options
from clipmill_jobs.reporting import current

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
        "A folder of images: a .txt file of the same name has the captions, one per line; the first sub-folder becomes the "
        "column `label`.",
        "clipmill import folder photos/ --output photos-parquet/",
    ),
    "csv": (
        "A CSV or TSV file with a caption per line; the lines of one image become one row. Image paths are relative to the "
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
"""Options that only some formats have."""
_RUNNING = ("precision", "batch_size", "dimension")
"""How a model runs, which does not matter where only its identity is asked for."""


@click.group("import", cls=Group)
def command() -> None:
    """Bring COCO, Flickr8k, folders, CSV, WebDataset or vectors into our formats.

    All but `vectors` write Parquet for `clipmill embed`: id, image, caption (a list) and the source's other columns. An
    image that is missing, or lies outside of the source, keeps its row, and ends as a reject when it is embedded.
    `vectors` writes an embeddings dataset, ready for `clipmill index` and `clipmill evaluate`; `clip-retrieval` its output
    with an index over it, ready for `clipmill explore`.
    """


def _add_format(name: str, description: str, example: str) -> None:
    without = [option for option, formats in _OPTIONS.items() if name not in formats]
    help_text = f"{description}\n\n\b\nExample:\n  {example}"

    @click.command(f"import {name}", cls=Job, doing="reading the source", help=help_text, short_help=_SHORT[name])
    @settings_options(settings=ImportSettings, exclude=without)
    @click.option("--json", "as_json", is_flag=True, help="Print a JSON summary to stdout.")
    def job(settings: ImportSettings, as_json: bool) -> None:
        _import_samples(name, settings, as_json)

    command.add_command(job, name)


def _import_samples(name: str, settings: ImportSettings, as_json: bool) -> None:
    from clipmill import storage
    from clipmill.source.importers import IMPORTERS
    from clipmill.source.importers.writing import make_import, write_samples

    work = make_import(name, settings)
    made = write_samples(work, lambda: IMPORTERS[name](storage.resolve(settings.source), settings), current())
    manifest = made.manifest
    if as_json:
        print_json({"output": settings.output, "already_complete": made.already, **manifest.model_dump(mode="json")})
        return
    what = " is already complete" if made.already else ""
    click.echo(
        f"{settings.output}{what}: {manifest.rows:,} images and {manifest.captions:,} captions in "
        f"{len(manifest.files):,} files"
    )
    if manifest.missing_images:
        click.echo(
            f"{manifest.missing_images:,} image files are missing, lie elsewhere or are no images: their rows are there, "
            "without an image"
        )


@click.command("import vectors", cls=Job, doing="reading the vectors")
@settings_options(settings=ImportVectorsSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def vectors(settings: ImportVectorsSettings, as_json: bool) -> None:
    """Bring vectors made elsewhere into an embeddings dataset.

    Vectors are divided by their length and stored as float16; those that are zero or not finite become rejects. Folders
    are read in natural order, as clip-retrieval writes them (img_emb_0.npy, img_emb_1.npy, …).

    \b
    Examples:
      clipmill import vectors --images img.npy --texts txt.npy --metadata captions.csv --output embeddings/
      clipmill import vectors --images img_emb/ --texts text_emb/ --metadata metadata/ --output embeddings/
    """
    from clipmill.source.importers.vectors import import_vectors

    made = import_vectors(settings, current())
    manifest, already = made.manifest, made.already
    if as_json:
        print_json({"output": settings.output, "already_complete": already, **manifest.model_dump(mode="json")})
        return
    counts = manifest.counts
    rejected = counts.rejected
    what = "is already complete:" if already else "has"
    click.echo(
        f"{settings.output} {what} {counts.images:,} images and {counts.captions:,} captions, {rejected:,} rejected"
    )


@click.command("import clip-retrieval", cls=Job, doing="reading the vectors")
@click.argument("source", metavar="SRC")
@click.option("--output", required=True, help="New folder for embeddings and index; local or s3://.")
@click.option("--overwrite", is_flag=True, help="Replace what is there, once the new is complete.")
@settings_options(model=ModelSettings, cluster=ClusterSettings, exclude=(*_RUNNING, *WITHOUT_ENCODERS))
def clip_retrieval(source: str, output: str, overwrite: bool, model: ModelSettings, cluster: ClusterSettings) -> None:
    """Take over what `clip-retrieval inference` wrote: vectors, captions and columns, with an index over them.

    Its folders img_emb, text_emb and metadata are read as they are. Name the model that made the vectors, and they can be
    searched by words and pictures; without, by what is like a row.

    \b
    Example:
      clipmill import clip-retrieval embeddings/ --output photos.clipmill --model ViT-B-32-quickgelu --pretrained openai
      clipmill explore photos.clipmill
    """
    from clipmill.runs.clip_retrieval import take_over

    embeddings, index = take_over(source, output, model, cluster, current(), overwrite=overwrite)
    counts = embeddings.counts
    click.echo(f"{output}: {counts.images:,} images and {counts.captions:,} captions; index {index.factory}")
    click.echo(f"clipmill explore {shlex.quote(output)}")


for _name, (_description, _example) in _FORMATS.items():
    _add_format(_name, _description, _example)
command.add_command(vectors, "vectors")
command.add_command(clip_retrieval, "clip-retrieval")

if __name__ == "__main__":
    command()
