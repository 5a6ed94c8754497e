"""A report whose files were altered, or whose parents are others now, is not whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clipmill.core.errors import UserError
from wholesome import edit_manifest


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    edit_manifest(folder, change, "report.json")


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


CORRUPTIONS = {
    "no page": (lambda r: (r / "report.html").unlink(), ["report.html is missing"]),
    "no table": (lambda r: (r / "report.csv").unlink(), ["report.csv is missing"]),
    "no summary": (lambda r: (r / "report.md").unlink(), ["report.md is missing"]),
    "no queries": (lambda r: (r / "report.queries.parquet").unlink(), ["report.queries.parquet is missing"]),
    "altered queries": (
        lambda r: (r / "report.queries.parquet").write_bytes(b"x"),
        ["report.queries.parquet is not the one"],
    ),
    "another file": (lambda r: (r / "notes.txt").write_text("x"), ["notes.txt does not belong"]),
    "an altered page": (lambda r: replace(r / "report.html", "R@10", "R@11"), ["report.html does not show"]),
    "an altered table": (lambda r: replace(r / "report.csv", "tiny", "huge"), ["report.csv does not show"]),
    "an altered figure": (
        lambda r: edit(r, lambda report: report["retrieval"][0]["figures"][0].update(value=0.999)),
        ["report.html does not show"],
    ),
    "a report cut short": (lambda r: (r / "report.json").write_bytes(b"{"), ["report.json is damaged"]),
    "a report without its model": (lambda r: edit(r, lambda report: report.pop("model")), ["report.json", "model"]),
    "other embeddings": (
        lambda r: edit(r, lambda report: report["inputs"].update({"embeddings manifest": "0" * 64})),
        ["embeddings dataset", "not the one"],
    ),
    "another index": (
        lambda r: edit(r, lambda report: report["inputs"].update({"index manifest": "0" * 64})),
        ["the index at", "not the one"],
    ),
    "counts that the embeddings do not have": (
        lambda r: edit(r, lambda report: report["dataset"]["counts"].update(images=7)),
        ["the counts of the dataset"],
    ),
    "a search depth that the index does not have": (
        lambda r: edit(r, lambda report: report["fidelity"].update(nprobe=77)),
        ["nprobe 77"],
    ),
}


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_the_report_is_whole_before_it_is_corrupted(quick: bool, report: Path, check: Callable) -> None:
    findings = check(report, quick=quick)
    assert (findings.faults, findings.notes, findings.unchecked) == ([], [], [])
    assert findings.checked["figures"] > 20


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_found(name: str, quick: bool, report: Path, check: Callable, told: Callable) -> None:
    corrupt, words = CORRUPTIONS[name]
    corrupt(report)
    told(check(report, quick=quick), *words)


def test_parents_that_are_gone_are_notes(report: Path, whole: Path, check: Callable) -> None:
    edit(report, lambda document: document["dataset"].update(uri=str(whole / "gone")))
    findings = check(report)
    assert any("gone" in note for note in findings.notes)


def test_a_page_of_another_version_is_not_compared(report: Path, check: Callable) -> None:
    (report / "report.html").write_text("drawn otherwise")
    edit(report, lambda document: document["software"].update(clipmill="0.0.1"))
    findings = check(report)
    assert findings.whole
    assert any("clipmill 0.0.1" in note for note in findings.notes)


def test_a_page_of_an_older_page_version_is_not_compared(report: Path, check: Callable) -> None:
    (report / "report.html").write_text("drawn otherwise")
    edit(report, lambda document: document.pop("page_version"))
    findings = check(report)
    assert findings.whole
    assert any("page version 1" in note for note in findings.notes)


def test_a_report_of_a_newer_version_is_not_judged(report: Path, check: Callable) -> None:
    edit(report, lambda document: document.update(schema_version=99))
    with pytest.raises(UserError, match="newer clipmill"):
        check(report)
