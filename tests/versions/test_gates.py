"""Bars: each is reached or missed by its own number, and says by how much."""

import math

import pytest

from clipmill.core.manifests import Counts, EmbeddingsManifest, IndexManifest, Interval, OperatingPoint, Throughput
from clipmill.core.settings import GateSettings, build
from clipmill.evaluation.figures import Figure
from clipmill.report.document import DatasetPart, Report
from clipmill.report.schema.index import FidelityPart
from clipmill.report.schema.retrieval import RetrievalPart
from clipmill.versions.gates import Judged, judge
from clipmill.versions.version import Bar
from wholesome import NOW, identity

NOTHING = Throughput(
    wall_seconds=0, images_per_second=0, captions_per_second=0, images_per_cpu_second=0, stage_seconds={}
)


def embeddings(rows: int = 100, new: Counts | None = None, **reasons: int) -> EmbeddingsManifest:
    rejected = sum(reasons.values())
    counts = Counts(rows=rows, images=rows - rejected, rejected_images=rejected, rejected_by_reason=reasons)
    return EmbeddingsManifest(
        model=identity(),
        dimension=16,
        counts=counts,
        configuration={} if new is None else {"new": new.model_dump()},
        kept_columns=[],
        runs=[],
        throughput=NOTHING,
        software={},
        hardware={},
        inputs_sha256="0" * 64,
        shards_sha256="0" * 64,
    )


def index(recall: float, confirmed: float | None) -> IndexManifest:
    point = OperatingPoint(
        nprobe=1,
        rerank=1,
        recall=Interval(value=recall, low=0, high=1, n=9),
        confirmed_recall=None if confirmed is None else Interval(value=confirmed, low=0, high=1, n=9),
        milliseconds_per_query=1,
    )
    values = {"model": None, "dimension": 16, "n": 1, "gallery": "images", "shards": 1, "factory": "Flat", "why": ""}
    return IndexManifest(
        **values,
        exact=True,
        k=10,
        target_recall=0.9,
        target_met=True,
        operating_point=point,
        front=[],
        query_kind="captions",
        memory={"total": 1},
        configuration={},
        kept_columns=[],
        embeddings="",
        embeddings_manifest_sha256="0" * 64,
        trained_sha256="0" * 64,
        shards_sha256="0" * 64,
        runs=[],
        stage_seconds={},
        software={},
        hardware={},
    )


def figure(key: str, value: float, half: float | None = None) -> Figure:
    low, high = (None, None) if half is None else (value - half, value + half)
    return Figure(key=key, title=key, value=value, unit="proportion", definition="", low=low, high=high)


def report(recall: float | None = None, half: float = 0.01, p99: float | None = None) -> Report:
    retrieval = RetrievalPart.model_construct(direction="t2i", figures=[figure("t2i.recall@10", recall or 0, half)])
    fidelity = FidelityPart.model_construct(figures=[figure("index.latency_p99", p99 or 0)])
    return Report.model_construct(
        created=NOW,
        dataset=DatasetPart.model_construct(),
        retrieval=[] if recall is None else [retrieval],
        fidelity=None if p99 is None else fidelity,
        zero_shot=None,
        alignment=None,
        cost=[],
    )


def judged(made: Judged, published: Judged | None = None, **gates: object) -> Bar:
    (bar,) = judge(build(GateSettings, {"max_row_loss": None, **gates}), made, published)
    return bar


def test_no_bar_no_judgement() -> None:
    assert judge(GateSettings(), Judged(embeddings(), None, None), None) == []


@pytest.mark.parametrize(("recall", "missed"), [(0.7, ""), (0.7001, ""), (0.65, "0.0500 too low")])
def test_t2i_recall_at_10(recall: float, missed: str) -> None:
    bar = judged(Judged(embeddings(), None, report(recall)), min_t2i_recall_at_10=0.7)
    assert (bar.name, bar.measured, bar.missed) == ("t2i R@10", f"{recall:.4f}", missed)


def test_what_cannot_be_measured_is_missed() -> None:
    for gate in ("min_t2i_recall_at_10", "max_p99_milliseconds", "min_index_recall"):
        bar = judged(Judged(embeddings(), None, report()), **{gate: 0.5})
        assert "could not be measured" in bar.missed


@pytest.mark.parametrize(
    ("now", "half", "missed"),
    [
        (0.80, 0.01, ""),  # a rise
        (0.765, 0.01, "0.0150 too much"),  # 0.035 ± 0.0141: visible, and more than 0.02
        (0.785, 0.01, ""),  # 0.015: less than is accepted
        (0.765, 0.05, ""),  # 0.035 ± 0.051: may be chance
    ],
)
def test_a_drop_counts_where_its_interval_leaves_out_zero(now: float, half: float, missed: str) -> None:
    before = Judged(embeddings(), None, report(0.8, 0.01))
    bar = judged(Judged(embeddings(), None, report(now, half)), before, max_t2i_drop=0.02)
    assert bar.missed == missed
    width = math.sqrt(0.01**2 + half**2)
    assert f"[{0.8 - now - width:.4f}, {0.8 - now + width:.4f}]" in bar.measured


def test_without_a_published_version_nothing_can_have_dropped_or_changed() -> None:
    for gate in ("max_t2i_drop", "max_row_change"):
        bar = judged(Judged(embeddings(), None, report(0.5)), **{gate: 0.0})
        assert (bar.measured, bar.missed) == ("nothing to compare with", "")


def test_rejects_are_judged_among_what_is_new() -> None:
    new = Counts(rows=20, images=10, captions=20, rejected_images=10, rejected_by_reason={"truncated_image": 10})
    of_many = embeddings(10_000, new, truncated_image=10)
    assert judged(Judged(of_many, None, None), max_rejects=0.2).missed == "5.00% too many"
    assert judged(Judged(of_many, None, None), max_rejects=0.25).missed == ""
    assert judged(Judged(of_many, None, None), max_rejects=9).missed == "1 too many"
    assert judged(Judged(of_many, None, None), max_rejects="25%").missed == ""
    first = embeddings(100, None, truncated_image=10)
    assert judged(Judged(first, None, None), max_rejects=0.05).missed == "5.00% too many"


def test_what_was_taken_down_is_no_reject() -> None:
    taken = embeddings(100, None, removed=50, truncated_image=1)
    assert judged(Judged(taken, None, None), max_rejects=1).missed == ""


def test_index_recall_is_that_of_unseen_queries() -> None:
    assert judged(Judged(embeddings(), index(0.99, 0.90), None), min_index_recall=0.95).missed == "0.0500 too low"
    assert judged(Judged(embeddings(), index(0.99, None), None), min_index_recall=0.95).missed == ""


def test_p99() -> None:
    assert judged(Judged(embeddings(), None, report(p99=12.5)), max_p99_milliseconds=10).missed == "2.5 ms too high"
    assert judged(Judged(embeddings(), None, report(p99=10.0)), max_p99_milliseconds=10).missed == ""


@pytest.mark.parametrize(("rows", "missed"), [(120, ""), (80, ""), (125, "5.00% too much"), (70, "10.00% too much")])
def test_rows_may_neither_come_nor_go_in_masses(rows: int, missed: str) -> None:
    before = Judged(embeddings(100), None, None)
    assert judged(Judged(embeddings(rows), None, None), before, max_row_change=0.2).missed == missed


@pytest.mark.parametrize(("rows", "missed"), [(1_000, ""), (80, ""), (79, "1.00% too much"), (0, "80.00% too much")])
def test_a_loss_of_rows_is_a_bar_without_being_asked_for_and_growth_is_none(rows: int, missed: str) -> None:
    before = Judged(embeddings(100), None, None)
    (bar,) = judge(GateSettings(), Judged(embeddings(rows), None, None), before)
    assert bar.name == "loss of rows"
    assert bar.missed.partition(";")[0] == missed
    assert bool(bar.missed) == ("max_row_loss" in bar.missed)
