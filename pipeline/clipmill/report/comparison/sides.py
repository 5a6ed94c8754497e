"""Everything that several reports say, side by side: figures as they stand in each, and what each was made of."""

from collections.abc import Sequence

from clipmill.report.comparison.document import Row, Setting
from clipmill.report.document import Figure, Report
from clipmill.report.page import DIRECTIONS

_LOWER_UNITS = ("rank", "milliseconds", "bytes", "seconds", "nats")
_LOWER_NAMES = ("error", "loss", "gap")
_HIGHER_UNITS = ("proportion", "ratio", "per second")


def figures_of(report: Report) -> list[tuple[str, Figure]]:
    """The figures of a report that say how good or how costly it is, each with its group."""
    found = [(DIRECTIONS[part.direction], figure) for part in report.retrieval for figure in part.figures]
    if report.zero_shot:
        found += [("zero-shot", figure) for figure in report.zero_shot.figures]
    if report.fidelity:
        found += [("index", figure) for figure in report.fidelity.figures]
    stored = Figure(
        name="bytes_per_stored_vector",
        title="Bytes a stored vector",
        unit="bytes",
        value=2 * report.dataset.dimension,
        definition="Size of one float16 vector of the embeddings, before any index.",
    )
    return found + [("cost", figure) for figure in [*report.cost, stored]]


def rows_of(reports: Sequence[Report]) -> list[Row]:
    """One row a figure that any report has, in the order of their first appearance within a group."""
    tables = [{(group, figure.name): figure for group, figure in figures_of(report)} for report in reports]
    groups = ("text → image", "image → text", "zero-shot", "index", "cost")
    keys = sorted(dict.fromkeys(key for table in tables for key in table), key=lambda key: groups.index(key[0]))
    rows = []
    for key in keys:
        found = [table.get(key) for table in tables]
        figure = next(figure for figure in found if figure is not None)
        rows.append(
            Row(
                group=key[0],
                name=figure.name,
                title=figure.title,
                unit=figure.unit,
                definition=figure.definition,
                higher_is_better=_higher_is_better(figure),
                figures=found,
            )
        )
    return rows


def _higher_is_better(figure: Figure) -> bool | None:
    if figure.unit in _LOWER_UNITS or any(word in figure.name for word in _LOWER_NAMES):
        return False
    return True if figure.unit in _HIGHER_UNITS else None


def settings_of(reports: Sequence[Report]) -> list[Setting]:
    """What each report was made of: model, data, evaluation, index, machine."""
    tables = [_settings(report) for report in reports]
    keys = dict.fromkeys(key for table in tables for key in table)
    found = []
    for group, name in keys:
        values = [table.get((group, name), "") for table in tables]
        found.append(Setting(group=group, name=name, values=values, differs=len(set(values)) > 1))
    return found


def _settings(report: Report) -> dict[tuple[str, str], str]:
    counts, model, index = report.dataset.counts, report.model, report.fidelity
    found = {
        ("Data", "embeddings"): report.dataset.uri,
        ("Data", "images"): f"{counts.images:,}",
        ("Data", "captions"): f"{counts.captions:,}",
        ("Data", "rejected"): f"{counts.rejected_images + counts.rejected_captions:,}",
        ("Model", "name"): model.name if model else "not known",
        ("Model", "dimension"): str(report.dataset.dimension),
    }
    if model:
        found[("Model", "pretrained")] = model.pretrained
        found[("Model", "weights")] = model.weights_sha256[:12]
        found[("Model", "preprocessing")] = "; ".join(f"{key} {value}" for key, value in model.preprocessing.items())
        found[("Model", "tokenizer")] = model.tokenizer
    for name, value in report.settings.items():
        found[("Evaluation", name.replace("_", " "))] = "default" if value is None else str(value)
    if index:
        found[("Index", "factory")] = index.factory
        found[("Index", "vectors")] = f"{index.n:,} {index.gallery}"
        found[("Index", "nprobe")] = str(index.nprobe)
        found[("Index", "re-rank")] = str(index.rerank)
        found[("Index", "queries")] = f"{index.queries:,} {index.query_kind}"
    found[("Machine", "hardware")] = ", ".join(map(str, report.hardware.values()))
    found[("Machine", "clipmill")] = report.software.get("clipmill", "")
    return found
