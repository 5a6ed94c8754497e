"""clipmill search: ask an index by text, by image, by id, or with a file of queries."""

import logging
import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from clipmill import storage
from clipmill.core.environment import DEFAULT_CACHE
from clipmill.core.errors import UserError
from clipmill.core.schemas import FRAME, TIMESTAMP
from clipmill.core.settings import ClusterSettings
from clipmill.core.settings.shared import TRUST
from clipmill.core.values import clock_text
from clipmill.index.search.limits import MAX_RESULTS
from clipmill.source.media import MediumName
from clipmill_jobs.command import Job, print_json
from clipmill_jobs.options import PLACE, cache_limit_option, cluster_options
from clipmill_jobs.reporting import current as current_reporter
from clipmill_jobs.tables import print_table

if TYPE_CHECKING:
    from clipmill.index.search.search import Index

_LOG = logging.getLogger("clipmill.search")


@dataclass(frozen=True)
class Question:
    """What was asked, as the options say it, in one of the `ways` that there are."""

    index_uri: str
    text: str | None
    image: str | None
    audio: str | None
    video: str | None
    identifier: str | None
    queries: str | None
    output: str | None
    actors: int | None
    where: str | None
    k: int
    as_json: bool
    html: str | None
    model: str | None
    pretrained: str | None
    trust_remote_code: bool
    cache_folder: Path
    resident: bool

    @property
    def arguments(self) -> list[str]:
        """The words after `clipmill search` that ask the same again."""
        told = {"--index": self.index_uri, **self.ways, "--where": self.where, "-k": str(self.k), "--html": self.html}
        told |= {"--model": self.model, "--pretrained": self.pretrained}
        return [word for option, value in told.items() if value is not None for word in (option, value)]

    @property
    def ways(self) -> dict[str, str]:
        """The ways to ask that were given, by option."""
        files = {"--image": self.image, "--audio": self.audio, "--video": self.video}
        ways = {"--text": self.text, **files, "--id": self.identifier, "--queries": self.queries}
        return {option: value for option, value in ways.items() if value is not None}


@click.command("search", cls=Job, doing="opening the index", context_settings={"allow_extra_args": True})
@click.option(
    "--index",
    "index_uri",
    type=PLACE,
    metavar="URI",
    help="Index, or output of `clipmill run`; local or s3://.  [required]",
)
@click.option("--text", help="Find what fits these words.")
@click.option("--image", type=click.Path(), help="Find what looks like this image file.")
@click.option("--audio", type=click.Path(), help="Find what sounds like this file of sound.")
@click.option("--video", type=click.Path(), help="Find what is like this video.")
@click.option("--id", "identifier", help="Find what is like the row with this id; that row itself comes first.")
@click.option("--queries", type=PLACE, help="A batch: .npy vectors, or Parquet with a column `embedding` or `text`.")
@click.option(
    "--output", type=PLACE, help="New Parquet file for the results of --queries: query, rank, row, id, score."
)
@click.option(
    "--actors",
    type=click.IntRange(1),
    help="Answer --queries on Ray: so many actors hold the shards in memory. Default: this process alone.",
)
@click.option("--where", help="Find only rows that meet this SQL condition on the columns of the index.")
@click.option("-k", "k", type=click.IntRange(1, MAX_RESULTS), default=10, show_default=True, help="Results per query.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--html", type=click.Path(), help="Write the results, with pictures where there are, to this one page.")
@click.option("--model", help="Name or folder of the index's model. Default: as its manifest says.")
@click.option("--pretrained", help="Where the weights of the index's model are now. Default: as its manifest says.")
@click.option("--trust-remote-code", is_flag=True, help=TRUST)
@click.option(
    "--resident",
    is_flag=True,
    help="Read the vectors for re-ranking into memory before the first query is answered. Default: they are mapped.",
)
@click.option(
    "--cache",
    "cache_folder",
    type=click.Path(path_type=Path),
    default=DEFAULT_CACHE,
    show_default=True,
    help="Folder of local copies of what lies on S3.",
)
@cache_limit_option
@cluster_options
@click.pass_context
def command(context: click.Context, /, cluster: ClusterSettings, **options: Any) -> None:
    """Search an index, at the operating point that it was tuned to.

    Scores are cosine similarities. --id uses the vector stored for that row, so the row itself is the first result
    (of several rows with the same id, the first is used). --where sees row, id and the columns kept from the source,
    of a gallery of captions caption and caption_index instead: "year >= 2020 and source <> 'web'".

    \b
    Examples:
      clipmill search --index index/ --text "a red circle above a blue square"
      clipmill search --index index/ --image photo.jpg -k 20 --html results.html
      clipmill search --index index/ --audio bird.wav
      clipmill search --index index/ --text "a cat" --where "label = 'photo' and year >= 2020"
      clipmill search --index index/ --queries queries.npy --output results.parquet
      clipmill search --index s3://bucket/index --queries s3://bucket/queries.parquet --output s3://bucket/found.parquet \\
                      --actors 16
    """
    question = Question(**options)
    _refuse_words(question, context.args)
    _refuse(question)
    from clipmill.versions.pointer import current

    index = current(question.index_uri, "index")
    if question.queries is not None:
        _answer_batch(question, index, cluster)
    else:
        _answer(question, index)


def _refuse_words(question: Question, words: list[str]) -> None:
    """Raises UserError, which says what to type, for words without an option, and where no index is given."""
    if words:
        index, *text = [question.index_uri, *words] if question.index_uri else words
        asked = next((f'{option} "{value}"' for option, value in question.ways.items()), "")
        asked = f'--text "{" ".join(text)}"' if text else asked or '--text "…"'
        raise UserError(f"an option says what each word is; type: clipmill search --index {index} {asked}")
    if not question.index_uri:
        raise UserError(
            "--index is missing: the index to search, or an output of `clipmill run`: --index photos.clipmill"
        )


def _refuse(question: Question) -> None:
    """Raises UserError for options that do not go together, and for a place that cannot be written to."""
    given, queries, output = question.ways, question.queries, question.output
    if len(given) != 1:
        ways = "--text, --image, --audio, --video, --id and --queries"
        typed = f'clipmill search --index {question.index_uri} --text "a dog on a beach"'
        raise UserError(f"give one of {ways}; {', '.join(given) or 'none'} was given; for example, type: {typed}")
    if (queries is None) != (output is None):
        raise UserError("--queries and --output go together: a file of queries, and one for their results")
    if queries is not None and question.html is not None:
        raise UserError("--html shows one query; the results of --queries are in --output")
    _refuse_place("--html", question.html, "--image", question.image)
    _refuse_place("--output", output, "--queries", queries)
    if output is not None and storage.exists(storage.resolve(output)):
        raise UserError(f"--output {output} is there already, and no file is replaced; give another name")
    if question.actors is not None and queries is None:
        raise UserError("--actors is for --queries: one query is answered by this process")


def _answer_batch(question: Question, index: str, cluster: ClusterSettings) -> None:
    from clipmill_jobs.search_batch import BatchQuery

    batch = BatchQuery(
        index,
        str(question.queries),
        str(question.output),
        question.k,
        question.where,
        question.model,
        question.pretrained,
        question.cache_folder,
        question.trust_remote_code,
        question.resident,
    )
    done, narrowed = batch.here() if question.actors is None else batch.on_actors(question.actors, cluster)
    summary = {"queries": done, "k": question.k, **narrowed, "output": storage.resolve(str(question.output)).uri}
    if question.as_json:
        print_json(summary)
    else:
        click.echo(f"{done:,} queries answered: {summary['output']}")


def _answer(question: Question, uri: str) -> None:
    from clipmill.index.search.open import open_index
    from clipmill_jobs.search_batch import narrowed_by, query_encoder

    index = open_index(uri, question.cache_folder, resident=question.resident)
    selection = None if question.where is None else index.select(question.where)
    narrowed = narrowed_by(question.where, None if selection is None else selection.count, index.n)
    encoder = cache(
        partial(query_encoder, index.manifest, question.model, question.pretrained, question.trust_remote_code)
    )
    k = min(question.k, index.n)
    if question.identifier is None:
        current_reporter().doing("search", "loading the model")
    if question.text is not None:
        found = index.search(encoder().encode_texts([question.text]), k, alike="captions", selection=selection)
    elif question.audio is not None or question.video is not None:
        from clipmill.embedding.clip_query import encode_clip

        medium: MediumName = "audio" if question.audio is not None else "video"
        file = Path(str(question.audio if question.audio is not None else question.video))
        vector = encode_clip(encoder().load(), medium, file, index.manifest.embeddings)
        found = index.search(vector, k, alike="audio" if medium == "audio" else "videos", selection=selection)
    elif question.image is not None:
        found = index.search(encoder().encode_image(Path(question.image)), k, alike="images", selection=selection)
    else:
        found = index.search_like(_position(index, str(question.identifier)), k, selection=selection)
    results = _results(index, *found)
    ((option, asked),) = question.ways.items()
    if question.html is not None:
        from clipmill_jobs.search_page import write_results_page

        write_results_page(
            index,
            results,
            asked=(option, asked),
            places=(question.index_uri, uri),
            arguments=question.arguments,
            page=question.html,
        )
    if question.as_json:
        query = {option.removeprefix("--"): asked}
        print_json({"index": uri, "query": query, "k": question.k, **narrowed, "results": results})
    elif question.html is not None:
        click.echo(question.html)
    else:
        _print_table(results)


def _refuse_place(option: str, place: str | None, source_option: str, source: str | None) -> None:
    """Refuses a file to write that is a folder, or the file that is read."""
    if place is None:
        return
    location = storage.resolve(place)
    if location.is_local and os.path.isdir(location.path):
        raise UserError(f"{option} {place} is a folder, give a file")
    if source is not None and _real(place) == _real(source):
        raise UserError(f"{option} {place} is the file of {source_option} itself; give another name")


def _real(uri: str) -> str:
    location = storage.resolve(uri)
    return os.path.realpath(location.path) if location.is_local else location.uri


def _position(index: "Index", identifier: str) -> int:
    positions = index.table.positions_of_id(identifier)
    if not len(positions):
        raise UserError(f"--id {identifier}: no row of the index has this id")
    return int(positions[0])


def _results(index: "Index", scores: NDArray[np.float32], positions: NDArray[np.int64]) -> list[dict[str, Any]]:
    found = positions[0] >= 0
    records = index.table.fetch(positions[0][found]).to_pylist()
    return [
        {"rank": rank, "score": float(score), **record}
        for rank, (score, record) in enumerate(zip(scores[0][found], records, strict=True), start=1)
    ]


def _print_table(results: list[dict[str, Any]]) -> None:
    if not results:
        click.echo("nothing was found")
        return
    columns = ["rank", "score", "id", *(name for name in results[0] if name not in ("rank", "score", "row", "id"))]
    print_table(
        [
            {name: f"{result['score']:.4f}" if name == "score" else _cell(_shown(result, name)) for name in columns}
            for result in results
        ]
    )


def _shown(result: dict[str, Any], name: str) -> Any:
    """The time of a picture of a video as people write it; other values as they are."""
    return clock_text(result[name]) if name == TIMESTAMP and FRAME in result else result[name]


def _cell(value: Any) -> str:
    """One value on one line, without the control characters that would move a terminal's cursor."""
    text = "" if value is None else str(value)
    return "".join(character if character.isprintable() else " " for character in text)[:60]


if __name__ == "__main__":
    command()
