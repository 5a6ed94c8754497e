"""What to do next: what was measured that is worth acting on, the most affected first, each with its command."""

import shlex
from collections.abc import Iterator

from clipmill.evaluation.figures import Figure
from clipmill.evaluation.results import SliceFigure, SlicePart, SlicesPart
from clipmill.evaluation.suspects.find import Suspects
from clipmill.evaluation.suspects.labels import Confused
from clipmill.report.document import FindingPart, Report
from clipmill.report.format import number_text

SHOWN = 3
"""As many are on top of the page, in the terminal and in `report.md`; ``report.json`` has all."""
_ENOUGH = 0.95
"""Recall of an index that is not worth a word."""


def findings(report: Report, suspects: Suspects) -> list[FindingPart]:
    """Everything that is worth acting on; empty where nothing is."""
    found = [*_swapped(report, suspects), *_copies(report, suspects), *_confused(report, suspects)]
    found += [*_slice(report), *_index(report)]
    return sorted(found, key=lambda one: -one.share)


def _swapped(report: Report, suspects: Suspects) -> Iterator[FindingPart]:
    if (found := suspects.swapped) is None:
        return
    share = found.count / found.captions
    drawn, in_all = "", ""
    if found.in_all is not None:
        drawn = " drawn"
        in_all = (
            f", which comes to {found.in_all.low:,} to {found.in_all.high:,} of all {found.in_all.captions:,} "
            "(--query-sample all counts them)"
        )
    yield FindingPart(
        kind="captions",
        text=f"About {found.count:,} of {found.captions:,} captions{drawn} ({share:.1%}) fit another picture than their "
        f"own{in_all}. Drop the pictures without a caption that fits: below a cosine of {found.below:.3f} there are about as "
        "many.",
        command=f"clipmill filter {_embeddings(report)} --min-clip-score {found.below:.3f} --output kept",
        affected=found.count,
        share=share,
    )


def _copies(report: Report, suspects: Suspects) -> Iterator[FindingPart]:
    if (found := suspects.copies) is None:
        return
    about = "" if found.compared == found.images else "About "
    yield FindingPart(
        kind="duplicates",
        text=f"{about}{found.count:,} of {found.images:,} images ({found.count / found.images:.1%}) are near-duplicates of "
        f"others (cosine of {found.cosine:g} or more). Drop them.",
        command=f"clipmill dedup {_embeddings(report)} --threshold {found.cosine:g} --output duplicates && clipmill filter "
        f"{_embeddings(report)} --duplicates duplicates --output kept",
        affected=found.count,
        share=found.count / found.images,
    )


def _confused(report: Report, suspects: Suspects) -> Iterator[FindingPart]:
    for found in suspects.confused[:1]:
        label, other = suspects.classes[found.label], suspects.classes[found.other]
        if found.seen:
            text = (
                f"{found.count:,} images with the label {label} look like {other}: look at them, and mend their labels."
            )
            command = _search(report, found, label, other)
        else:
            text = (
                f"The class {label} is taken for {other} in {found.count:,} of {found.images:,} images, by their names alone: "
                "add templates, choose other names, or look at the labels."
            )
            imagenet = report.settings.get("templates") == "imagenet"
            command = f"clipmill evaluate {_embeddings(report)} --output again " + (
                "--class-names names.csv" if imagenet else "--templates imagenet"
            )
        share = found.count / max(1, suspects.labelled)
        yield FindingPart(kind="labels", text=text, command=command, affected=found.count, share=share)


def _search(report: Report, found: Confused, label: str, other: str) -> str:
    column = report.zero_shot.column if report.zero_shot else str(report.settings.get("label_column") or "label")
    where = shlex.quote(f"{_name(column)} = {_text(label)}")
    asked = f"--text {shlex.quote(f'a photo of a {other}')} --where {where} -k {found.count} --html mislabelled.html"
    if report.fidelity:
        return f"clipmill search --index {shlex.quote(report.fidelity.uri)} {asked}"
    return f"clipmill index {_embeddings(report)} --output index && clipmill search --index index {asked}"


def _slice(report: Report) -> Iterator[FindingPart]:
    """The slice that loses most: by how much it does worse, and how many images are in it."""
    lost: dict[float, tuple[str, SlicePart, SliceFigure, Figure]] = {}
    for part, column, one in _slices(report.slices):
        for figure in one.figures:
            whole = next(other for other in part.figures if other.key == figure.key)
            if figure.worse and _outside(column, one) is not None:
                lost.setdefault(abs(whole.value - figure.value) * one.images, (column, one, figure, whole))
    if not lost:
        return
    column, one, figure, whole = lost[max(lost)]
    here, all_of_it = number_text(figure.value, whole.unit), number_text(whole.value, whole.unit)
    yield FindingPart(
        kind="slice",
        text=f"The {one.images:,} images where {column} is {one.text or 'null'} do worse than the rest: {whole.title} {here} "
        f"against {all_of_it} in all. Look at where they come from, or leave them out.",
        command=f"clipmill filter {_embeddings(report)} --where {shlex.quote(_outside(column, one) or '')} --output kept",
        affected=one.images,
        share=one.images / max(1, report.dataset.counts.images),
    )


def _slices(part: SlicesPart | None) -> Iterator[tuple[SlicesPart, str, SlicePart]]:
    for column in part.columns if part else []:
        for one in column.slices:
            assert part is not None
            yield part, column.column, one


def _outside(column: str, one: SlicePart) -> str | None:
    """The condition that leaves a slice out; None for one that a condition cannot name."""
    name = _name(column)
    if one.kind == "null":
        return f"{name} is not null"
    if one.kind == "value":
        return f"{name} is distinct from {_text(one.text)}"
    low, _, high = one.text.partition(" … ")
    return f"{name} is null or {name} < {_text(low)} or {name} > {_text(high)}" if one.kind == "range" else None


def _index(report: Report) -> Iterator[FindingPart]:
    part = report.fidelity
    if part is None or part.exact or not part.asks_as_users:
        return
    recall = part.figures[0]
    if recall.high is None or recall.high >= _ENOUGH:
        return
    yield FindingPart(
        kind="index",
        text=f"The index finds {recall.value:.1%} of what exact search finds. Build it for more: it then looks into more lists "
        f"than {part.nprobe:,} and re-ranks more.",
        command=f"clipmill index {_embeddings(report)} --target-recall {_ENOUGH:g} --output index-{_ENOUGH:g}",
        affected=round((1 - recall.value) * part.n),
        share=1 - recall.value,
    )


def _embeddings(report: Report) -> str:
    return f"--embeddings {shlex.quote(report.dataset.uri)}"


def _name(column: str) -> str:
    """A column in SQL."""
    return column if column.isidentifier() and column.isascii() else '"' + column.replace('"', '""') + '"'


def _text(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"
