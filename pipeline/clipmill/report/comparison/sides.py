"""Everything that several reports say, side by side: figures as they stand in each, and what each was made of."""

from collections.abc import Sequence

from clipmill.evaluation.figures import COMPARED, Figure, metric
from clipmill.report.comparison.document import Row, Setting
from clipmill.report.document import Report


def figures_of(report: Report) -> list[Figure]:
    """The figures of a report that say how good or how costly it is, and the bytes of a vector before any index."""
    if report.texts:
        return report.main_figures
    return [*report.main_figures, metric("cost.bytes_per_stored_vector").figure(2 * report.dataset.dimension)]


def rows_of(reports: Sequence[Report]) -> list[Row]:
    """One row for each figure that any report has, part by part, in the order in which they first appear."""
    tables = [{figure.key: figure for figure in figures_of(report)} for report in reports]
    parts = list(COMPARED)
    known = {key: figure for table in reversed(tables) for key, figure in table.items()}
    keys = dict.fromkeys(key for table in tables for key in table)
    return [
        Row(
            key=key,
            group=COMPARED[known[key].part],
            title=known[key].title,
            unit=known[key].unit,
            definition=known[key].definition,
            higher_is_better=known[key].higher_is_better,
            figures=[table.get(key) for table in tables],
        )
        for key in sorted(keys, key=lambda key: parts.index(known[key].part))
    ]


def settings_of(reports: Sequence[Report]) -> list[Setting]:
    """What each report was made from: data, model, evaluation, index, machine."""
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
        ("Data", "rejected"): f"{counts.rejected:,}",
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
