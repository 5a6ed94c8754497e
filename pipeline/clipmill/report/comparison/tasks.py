"""One task of two reports: whether their queries can be paired, and how the paired outcomes differ."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.evaluation.directions import DIRECTIONS
from clipmill.evaluation.figures import Figure
from clipmill.evaluation.outcomes import HITS_AT, Task
from clipmill.report.comparison.document import Change, TaskChange, Verdict
from clipmill.report.comparison.flips import find_flips, values_of
from clipmill.report.comparison.pair import Match, Pairs, pair
from clipmill.report.comparison.paired import Difference, class_recall_difference, mean_differences, median_difference
from clipmill.report.comparison.read import Opened
from clipmill.report.document import KeptQueries, Report

MIN_SHARE = 0.8
"""Of the queries of the larger side and of the larger gallery: below it ranks depend more on the data than on the model."""
TASKS: Mapping[Task, str] = dict([*DIRECTIONS.items(), ("zero-shot", "zero-shot classification")])
"""The tasks that are tested, and what they are called."""
_KEYS: Mapping[Match, str] = {"path": "source path and row number", "id": "id"}


@dataclass(frozen=True)
class Side:
    """A report with its queries, if it keeps them, and the name it goes by."""

    name: str
    opened: Opened
    queries: pa.Table | None

    def of_task(self, task: Task) -> pa.Table | None:
        """The queries of one task; None where none are kept."""
        if self.queries is None:
            return None
        return self.queries.filter(pc.equal(self.queries.column("task"), task))

    def kept(self, task: Task) -> KeptQueries:
        """How many of them there are, and which."""
        assert self.opened.report.queries is not None  # there are queries of this task
        return self.opened.report.queries.tasks[task]


@dataclass(frozen=True)
class Sampling:
    """How many resamples are drawn, and from which seed."""

    samples: int
    seed: int


def tasks_of(report: Report) -> dict[Task, int]:
    """The tasks that a report measured, each with the size of what was searched."""
    found: dict[Task, int] = {part.direction: part.gallery for part in report.retrieval}
    if report.zero_shot:
        found["zero-shot"] = len(report.zero_shot.classes)
    return found


def compare_task(task: Task, first: Side, second: Side, match: Match, sampling: Sampling) -> TaskChange:
    """What changed from ``first`` to ``second``, or why that cannot be said. P-values are not corrected yet."""
    sizes = [tasks_of(side.opened.report).get(task, 0) for side in (first, second)]
    tables = [side.of_task(task) for side in (first, second)]

    def change(why_not: str | None, pairs: Pairs | None = None, **found: object) -> TaskChange:
        counts = [len(table) if table is not None else 0 for table in tables]
        values = {
            "task": task,
            "title": TASKS[task],
            "shared": len(pairs) if pairs else 0,
            "first": pairs.of_first if pairs else counts[0],
            "second": pairs.of_second if pairs else counts[1],
            "first_gallery": sizes[0],
            "second_gallery": sizes[1],
            "why_not": why_not,
            "changes": [],
            "flips": None,
            "sampled_of": _sampled_of(first, second, task),
        }
        return TaskChange.model_validate({**values, **found})

    for side, size, table in zip((first, second), sizes, tables, strict=True):
        if not size:
            return change(f"{side.name} did not measure it")
        if table is None or not len(table):
            return change(f"{side.name} was made before reports kept the outcome of each query; evaluate again to test")
    one, other = tables
    assert one is not None
    assert other is not None
    pairs = pair(one, other, (first.kept(task), second.kept(task)), match)
    paired = one.take(pa.array(pairs.at_first)), other.take(pa.array(pairs.at_second))
    same = _same_content(task, *paired)
    agreeing = pc.sum(pc.fill_null(same, True)).as_py() / len(pairs) if len(pairs) else 0.0
    if pairs.share * agreeing < MIN_SHARE:
        why = _other_draws(first.kept(task), second.kept(task)) or _why_not(pairs, agreeing, match)
        if match == "path" and not len(pairs):
            by_id = len(pair(one, other, (first.kept(task), second.kept(task)), "id"))
            why += f"; {by_id:,} have the same id: --match id pairs them" if by_id else ""
        return change(why, pairs)
    if min(sizes) < MIN_SHARE * max(sizes):
        what = "classes" if task == "zero-shot" else "in the gallery"
        return change(f"ranks do not compare where there are {sizes[0]:,} and {sizes[1]:,} {what}", pairs)
    use = np.flatnonzero(pc.fill_null(same, True).to_numpy(zero_copy_only=False))
    tested = paired[0].take(pa.array(use)), paired[1].take(pa.array(use))
    weights = None if pairs.weights is None else pairs.weights[use]
    changes = _changes(task, *tested, pairs.images[use], weights, sampling, _known(first, second))
    hit = ("right class first", "hit_1") if task == "zero-shot" else ("hit@10", "hit_10")
    return change(None, pairs, shared=len(use), changes=changes, flips=find_flips(*hit, *tested))


def _known(first: Side, second: Side) -> dict[str, Figure]:
    """The figures of either report by key: what they are called, and which way is better."""
    return {figure.key: figure for side in (second, first) for figure in side.opened.report.main_figures}


def _same_content(task: Task, first: pa.Table, second: pa.Table) -> pa.Array:
    """True where the query is the same in both, by caption for t2i and by label for zero-shot; null where neither kept it."""
    column = "label" if task == "zero-shot" else "text"
    return pc.equal(first.column(column), second.column(column)).combine_chunks()


def _sampled_of(first: Side, second: Side, task: Task) -> int | None:
    """The queries that the larger sample was drawn from; None where neither report has one."""
    parts = [side.opened.report.queries for side in (first, second)]
    drawn = [part.tasks[task].of for part in parts if part is not None and task in part.tasks]
    return max((of for of in drawn if of is not None), default=None)


def _other_draws(first: KeptQueries, second: KeptQueries) -> str | None:
    """Why samples of the same queries may share few; None where it is not that they are samples."""
    if None in (first.of, second.of) or first.seed == second.seed:
        return None
    return (
        f"their queries were drawn with other seeds, {first.seed} and {second.seed}, so few are in both: evaluate one again "
        f"with --seed {first.seed}, or both with --query-sample all"
    )


def _why_not(pairs: Pairs, agreeing: float, match: Match) -> str:
    if not len(pairs):
        many = f"; {pairs.ambiguous:,} have an id that is not unique" if pairs.ambiguous else ""
        return f"they have no query in common, by {_KEYS[match]}{many}"
    if pairs.share >= MIN_SHARE:
        return f"at the same {_KEYS[match]}, {1 - agreeing:.1%} of the queries are others: the data changed in place"
    return f"only {pairs.share:.1%} of the queries are in both, by {_KEYS[match]}; {MIN_SHARE:.0%} are needed"


def _changes(
    task: Task,
    first: pa.Table,
    second: pa.Table,
    images: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    sampling: Sampling,
    known: Mapping[str, Figure],
) -> list[Change]:
    """The metrics that the outcomes of single queries give, of those ``known`` from the reports, by key."""
    samples, seed = sampling.samples, sampling.seed
    ks = [k for k in HITS_AT if not any(table.column(f"hit_{k}").null_count for table in (first, second))]
    hits = [np.stack([values_of(table, f"hit_{k}") for k in ks], axis=1) for table in (first, second)]
    at_k = mean_differences(hits[0], hits[1], images, samples, seed, weights, proportions=True)
    name = "acc{}" if task == "zero-shot" else "recall@{}"
    found = {name.format(k): difference for k, difference in zip(ks, at_k, strict=True)}
    if task == "zero-shot":
        labels = first.column("label").combine_chunks().dictionary_encode()
        if isinstance(labels, pa.ChunkedArray):
            labels = labels.combine_chunks()
        classes = labels.indices.to_numpy().astype(np.int64)
        found["mean_per_class_recall"] = class_recall_difference(classes, hits[0][:, 0], hits[1][:, 0], samples, seed)
    else:
        # Reports of before reciprocal ranks were kept do not tell them where scores tie.
        names = [
            name
            for name in ("reciprocal_rank", "rank")
            if not any(table.column(name).null_count for table in (first, second))
        ]
        placed = [np.stack([values_of(table, name) for name in names], axis=1) for table in (first, second)]
        means = mean_differences(placed[0], placed[1], images, samples, seed, weights, proportions=False)
        found |= {f"mean_{name}": difference for name, difference in zip(names, means, strict=True)}
        found["median_rank"] = median_difference(placed[0][:, -1], placed[1][:, -1], images, samples, seed, weights)
    return [_change(known[key], found[metric]) for metric in found if (key := f"{task}.{metric}") in known]


def _change(figure: Figure, found: Difference) -> Change:
    return Change(
        key=figure.key,
        title=figure.title,
        unit=figure.unit,
        first=found.first,
        second=found.second,
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=found.p,
        n=found.n,
        verdict=verdict(found.low, found.high, higher_is_better=figure.higher_is_better is not False),
    )


def verdict(low: float, high: float, *, higher_is_better: bool) -> Verdict:
    """What an interval of a difference says."""
    if low <= 0 <= high:
        return "no visible difference"
    return "better" if (low > 0) == higher_is_better else "worse"
