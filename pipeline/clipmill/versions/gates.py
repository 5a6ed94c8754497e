"""Bars that decide whether a version is published: what was measured for each, and by how much it was missed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from clipmill.core.manifests import GALLERY_VECTORS, Counts, EmbeddingsManifest, IndexManifest
from clipmill.core.settings import GateSettings
from clipmill.evaluation.figures import Figure
from clipmill.report.document import Report
from clipmill.versions.compose import NEW, rejects_of
from clipmill.versions.version import Bar


@dataclass(frozen=True)
class Judged:
    """What is judged: the manifests and the report of one version; those that were not made are null."""

    embeddings: EmbeddingsManifest
    index: IndexManifest | None
    report: Report | None


def judge(gates: GateSettings, made: Judged, published: Judged | None) -> list[Bar]:
    """Every bar that is set, with what was measured for it. ``published`` is the version that readers see now.

    What cannot be measured is missed: a bar that nothing was held against was not reached.
    """
    return list(_bars(gates, made, published))


def _bars(gates: GateSettings, made: Judged, published: Judged | None) -> Iterator[Bar]:
    recall = _recall(made.report)
    if gates.min_t2i_recall_at_10 is not None:
        yield _at_least("t2i R@10", recall.value if recall else None, gates.min_t2i_recall_at_10)
    if gates.max_t2i_drop is not None:
        yield _drop(recall, published, gates.max_t2i_drop)
    if gates.max_rejects is not None:
        yield _rejects(made.embeddings, gates.max_rejects)
    if gates.min_index_recall is not None:
        yield _index_recall(made.index, gates.min_index_recall)
    if gates.max_p99_milliseconds is not None:
        yield _at_most("index p99 latency", _p99(made.report), gates.max_p99_milliseconds, " ms")
    if gates.max_row_change is not None:
        yield _row_change(made.embeddings, published, gates.max_row_change)
    if gates.max_row_loss is not None and published is not None:
        yield _row_loss(made.embeddings, published, gates.max_row_loss)


def recall_of(manifest: IndexManifest) -> float:
    """On queries that the index was not tuned on, where there were enough of them."""
    return manifest.measured_recall.value


def _index_recall(manifest: IndexManifest | None, bar: float) -> Bar:
    """Gallery vectors are not what an index is asked, so that only an exact one passes by what it finds for them."""
    if manifest is None or (manifest.query_kind == GALLERY_VECTORS and not manifest.exact):
        return _unmeasured("index recall", f"at least {bar:g}")
    return _at_least("index recall", recall_of(manifest), bar)


def _recall(report: Report | None) -> Figure | None:
    return report.figure("t2i.recall@10") if report else None


def _p99(report: Report | None) -> float | None:
    figure = report.figure("index.latency_p99") if report else None
    return figure.value if figure else None


def _at_least(name: str, value: float | None, bar: float) -> Bar:
    if value is None:
        return _unmeasured(name, f"at least {bar:g}")
    missed = f"{bar - value:.4f} too low" if value < bar else ""
    return Bar(name=name, measured=f"{value:.4f}", bar=f"at least {bar:g}", missed=missed)


def _at_most(name: str, value: float | None, bar: float, unit: str) -> Bar:
    if value is None:
        return _unmeasured(name, f"at most {bar:g}{unit}")
    missed = f"{value - bar:.4g}{unit} too high" if value > bar else ""
    return Bar(name=name, measured=f"{value:.4g}{unit}", bar=f"at most {bar:g}{unit}", missed=missed)


def _unmeasured(name: str, bar: str) -> Bar:
    return Bar(name=name, measured="not measured", bar=bar, missed="it could not be measured; the report says why")


def _drop(recall: Figure | None, published: Judged | None, bar: float) -> Bar:
    """The versions hold different rows, so the two recalls are taken as independent: the standard errors behind their
    intervals add in quadrature. A drop counts where its 95% interval leaves out zero."""
    name, wanted = "drop of t2i R@10", f"at most {bar:g}"
    if published is None:
        return Bar(name=name, measured="nothing to compare with", bar=wanted)
    before = _recall(published.report)
    if before is None:
        return Bar(name=name, measured="not measured in the published version", bar=wanted)
    if recall is None:
        return _unmeasured(name, wanted)
    drop = before.value - recall.value
    half = math.hypot(_half_width(before), _half_width(recall))
    measured = f"{drop:.4f} [{drop - half:.4f}, {drop + half:.4f}], from {before.value:.4f} to {recall.value:.4f}"
    missed = f"{drop - bar:.4f} too much" if drop > bar and drop - half > 0 else ""
    return Bar(name=name, measured=measured, bar=wanted, missed=missed)


def _half_width(figure: Figure) -> float:
    if figure.low is None or figure.high is None:
        return 0.0
    return (figure.high - figure.low) / 2


def _rejects(manifest: EmbeddingsManifest, bar: float) -> Bar:
    """Among what is new, since what was published before has passed; of a first version that is everything."""
    new = manifest.configuration.get(NEW)
    counts = Counts.model_validate(new) if new is not None else manifest.counts
    rejected, name = rejects_of(counts), "rejects"
    seen = rejected + counts.images + counts.captions
    share = f"{rejected / seen:.2%}" if seen else "0%"
    measured = f"{rejected:,} of {seen:,} new images and captions ({share})"
    if isinstance(bar, int):
        missed = f"{rejected - bar:,} too many" if rejected > bar else ""
        return Bar(name=name, measured=measured, bar=f"at most {bar:,}", missed=missed)
    missed = f"{rejected / seen - bar:.2%} too many" if seen and rejected > bar * seen else ""
    return Bar(name=name, measured=measured, bar=f"at most {bar:.4g} of them", missed=missed)


def _row_change(manifest: EmbeddingsManifest, published: Judged | None, bar: float) -> Bar:
    name, wanted = "change of rows", f"at most {bar:.4g} of those published"
    if published is None:
        return Bar(name=name, measured="nothing to compare with", bar=wanted)
    before, now = published.embeddings.counts.rows, manifest.counts.rows
    change = abs(now - before) / before if before else math.inf
    missed = f"{change - bar:.2%} too much" if change > bar else ""
    return Bar(name=name, measured=f"{change:.2%}, from {before:,} to {now:,}", bar=wanted, missed=missed)


def _row_loss(manifest: EmbeddingsManifest, published: Judged, bar: float) -> Bar:
    """Rows taken down are no loss: they count as rows that became rejects."""
    before, now = published.embeddings.counts.rows, manifest.counts.rows
    loss = max(0, before - now) / before if before else 0.0
    missed = (
        f"{loss - bar:.2%} too much; set gates: max_row_loss, or type --max-row-loss 1, where so many rows are meant to go"
        if loss > bar
        else ""
    )
    measured = f"{loss:.2%}, from {before:,} to {now:,}"
    return Bar(name="loss of rows", measured=measured, bar=f"at most {bar:.4g} of those published", missed=missed)
