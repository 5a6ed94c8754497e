"""``report.csv``: one row per model, dataset and task, with the columns that CLIP_benchmark's CSV builder writes.

``language`` is empty: it is not known which language captions and class names are in.
"""

import csv
import io

from clipmill.report.document import Report

RETRIEVAL = {
    f"{direction}.recall@{k}": f"{name}_recall@{k}"
    for direction, name in (("t2i", "image_retrieval"), ("i2t", "text_retrieval"))
    for k in (1, 5, 10)
}
CLASSIFICATION = {f"zero-shot.{name}": name for name in ("acc1", "acc5", "mean_per_class_recall")}
PROBE = {f"probe.linear_probe_{name}": f"lp_{name}" for name in ("acc1", "mean_per_class_recall")}
"""The columns of each task, by the key of the figure that stands in them."""
SAMPLED = "sampled"
"""A column of ours, last, where queries were drawn: how many of how many, in each direction."""
ELSEWHERE = "vectors made elsewhere"
HEAD = ("model", "pretrained", "model_fullname", "dataset", "task", "language")
COLUMNS = (*HEAD, *RETRIEVAL.values(), *CLASSIFICATION.values(), *PROBE.values())


def rows_of(report: Report) -> list[dict[str, str | float]]:
    """One row per task that was measured; metrics of other tasks are absent from it."""
    model = report.model.name if report.model else ELSEWHERE
    pretrained = report.model.pretrained if report.model else ""
    head: dict[str, str | float] = {
        "model": model,
        "pretrained": pretrained,
        "model_fullname": f"{model} {pretrained}".strip(),
        "dataset": report.dataset.title,
    }
    tasks = {"zeroshot_retrieval": RETRIEVAL, "zeroshot_classification": CLASSIFICATION, "linear_probe": PROBE}
    rows = []
    for task, columns in tasks.items():
        values = {columns[figure.key]: figure.value for figure in report.figures if figure.key in columns}
        if values:
            rows.append({**head, "task": task, **values, **(_sampled(report) if columns is RETRIEVAL else {})})
    return rows


def _sampled(report: Report) -> dict[str, str]:
    """What was drawn in each direction; nothing where every query was ranked."""
    told = [
        f"{part.direction} {part.queries} of {part.sampled.of} seed {part.sampled.seed} strata {len(part.sampled.strata)}"
        for part in report.retrieval
        if part.sampled
    ]
    return {SAMPLED: "; ".join(told)} if told else {}


def csv_text(report: Report) -> str:
    """The rows as CSV with a header, also where there is no row."""
    out = io.StringIO()
    columns = (*COLUMNS, SAMPLED) if any(part.sampled for part in report.retrieval) else COLUMNS
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows_of(report))
    return out.getvalue()
