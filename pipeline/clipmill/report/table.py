"""``report.csv``: one row a model, dataset and task, with the columns that CLIP_benchmark's CSV builder writes.

``language`` is empty: it is not known which language captions and class names are in.
"""

import csv
import io

from clipmill.report.document import Figure, Report

_DIRECTIONS = {"t2i": "image_retrieval", "i2t": "text_retrieval"}
RETRIEVAL_METRICS = tuple(f"{name}_recall@{k}" for name in ("image_retrieval", "text_retrieval") for k in (1, 5, 10))
CLASSIFICATION_METRICS = ("acc1", "acc5", "mean_per_class_recall")
HEAD = ("model", "pretrained", "model_fullname", "dataset", "task", "language")
COLUMNS = (*HEAD, *RETRIEVAL_METRICS, *CLASSIFICATION_METRICS)


def rows_of(report: Report) -> list[dict[str, str | float]]:
    """One row a task that was measured; metrics of other tasks are absent from it."""
    model = report.model.name if report.model else ""
    pretrained = report.model.pretrained if report.model else ""
    head: dict[str, str | float] = {
        "model": model,
        "pretrained": pretrained,
        "model_fullname": f"{model} {pretrained}".strip(),
        "dataset": report.dataset.name,
    }
    rows = []
    if report.retrieval:
        metrics = {
            f"{_DIRECTIONS[part.direction]}_recall@{figure.title.removeprefix('R@')}": figure.value
            for part in report.retrieval
            for figure in part.figures
            if figure.title.startswith("R@")
        }
        rows.append({**head, "task": "zeroshot_retrieval", **metrics})
    if report.zero_shot:
        rows.append({**head, "task": "zeroshot_classification", **_by_name(report.zero_shot.figures)})
    return rows


def _by_name(figures: list[Figure]) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures if figure.name in CLASSIFICATION_METRICS}


def csv_text(report: Report) -> str:
    """The rows as CSV with a header, also where there is no row."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(report))
    return out.getvalue()
