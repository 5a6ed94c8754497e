"""Pictures beside the queries that changed, from the embeddings of the first report as long as they are what it was made of."""

from collections.abc import Iterable, Sequence

from clipmill import storage
from clipmill.core.errors import ClipmillError
from clipmill.core.schemas import ORDINAL_SHIFT
from clipmill.datasets.manifests import INPUTS_FILE, Embeddings
from clipmill.report.comparison.document import FlippedQuery, Flips, TaskChange
from clipmill.report.comparison.read import Opened
from clipmill.report.results.page import picture_uri
from clipmill.report.results.pictures import pictures_of

_PICTURED = ("t2i", "i2t", "zero-shot")


def with_pictures(tasks: Sequence[TaskChange], baseline: Opened) -> list[TaskChange]:
    """The same tasks with a picture of each flipped query that has one; none where the embeddings are gone, or others."""
    dataset = _embeddings_of(baseline)
    if dataset is None:
        return list(tasks)
    ordinals = _ordinals(dataset)
    rows = {row for task in tasks for query in _flipped(task) if (row := _row(query, ordinals)) is not None}
    found = pictures_of(dataset, rows).found if rows else {}
    pictures = {row: uri for row, data in found.items() if (uri := picture_uri(data))}
    return [_pictured(task, ordinals, pictures) for task in tasks]


def _embeddings_of(opened: Opened) -> Embeddings | None:
    try:
        dataset = Embeddings.open(opened.report.dataset.uri)
    except (ClipmillError, OSError):
        return None
    return dataset if dataset.manifest_sha256 == opened.report.inputs.get("embeddings manifest") else None


def _ordinals(dataset: Embeddings) -> dict[str, int]:
    """The ordinal of each source file; of a path that was changed and has several, the last."""
    listed = storage.read_table(dataset.location / INPUTS_FILE).select(["ordinal", "path"]).to_pylist()
    return {one["path"]: one["ordinal"] for one in listed}


def _flipped(task: TaskChange) -> Iterable[FlippedQuery]:
    if task.flips is None or task.task not in _PICTURED:
        return ()
    return (*task.flips.lost_examples, *task.flips.gained_examples)


def _row(query: FlippedQuery, ordinals: dict[str, int]) -> int | None:
    if query.path not in ordinals:
        return None
    return ordinals[query.path] << ORDINAL_SHIFT | query.row_number


def _pictured(task: TaskChange, ordinals: dict[str, int], pictures: dict[int, str]) -> TaskChange:
    if task.flips is None or task.task not in _PICTURED:
        return task

    def shown(queries: Sequence[FlippedQuery]) -> list[FlippedQuery]:
        rows = [_row(query, ordinals) for query in queries]
        return [
            query.model_copy(update={"picture": pictures.get(row) if row is not None else None})
            for query, row in zip(queries, rows, strict=True)
        ]

    flips = task.flips
    told = {"lost_examples": shown(flips.lost_examples), "gained_examples": shown(flips.gained_examples)}
    changed: Flips = flips.model_copy(update=told)
    return task.model_copy(update={"flips": changed})
