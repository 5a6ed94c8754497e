"""Rows and captions are accounted for, however they are cut into pieces."""

import numpy as np
import pytest

from clipmill.verification.findings import Findings
from clipmill.verification.rows import RowAccount, SourceFile


def settle(
    files: list[SourceFile], events: list[tuple[int, str, list[int], list[int] | None]]
) -> tuple[Findings, RowAccount]:
    """Hands over keys: (all before this row has come, stream, rows, caption indices)."""
    findings = Findings("embeddings", "here")
    account = RowAccount(iter(files), ("images",), lambda part, row: part, findings)
    for below, stream, rows, index in events:
        account.settle(below)
        account.add(stream, np.array(rows, np.int64), np.array(index or [0] * len(rows), np.int64))
    account.finish()
    return findings, account


@pytest.mark.parametrize("pieces", [1, 2, 7, 100])
def test_a_whole_dataset_in_pieces(pieces: int) -> None:
    files = [SourceFile(0, "a", 100, 0), SourceFile(1, "empty", 0, 0), SourceFile(2, "b", 50, 0)]
    rows = [*range(100), *((2 << 32) + row for row in range(50))]
    cuts = np.array_split(np.array(rows), pieces)
    findings, account = settle(files, [(int(cut[0]), "images", cut.tolist(), None) for cut in cuts])
    assert findings.faults == []
    assert findings.checked["rows"] == 150
    assert account.without["images"] == 0


def test_a_hole_over_several_pieces_is_told_in_full() -> None:
    files = [SourceFile(0, "a", 1000, 0)]
    findings, _ = settle(files, [(0, "images", [0, 1], None), (500, "images", [500], None)])
    assert [fault.split(":")[1].split(" neither")[0] for fault in findings.faults] == [
        " rows 2 to 499 are",
        " rows 501 to 999 are",
    ]


def test_a_file_without_images_has_lost_none() -> None:
    files = [SourceFile(0, "a", 10, 3), SourceFile(1, "b", 2, 0)]
    base = 1 << 32
    findings, account = settle(files, [(0, "captions", [1, 1, 5], [0, 1, 0]), (base, "images", [base, base + 1], None)])
    assert findings.faults == []
    assert account.without["images"] == 10


def test_an_image_and_its_reject_in_other_files_are_found() -> None:
    findings, _ = settle(
        [SourceFile(0, "a", 3, 0)], [(0, "images", [0, 1, 2], None), (1, "rejected images", [1], None)]
    )
    assert findings.faults == ["a: row 1 is both an image and a reject (images, rejected)"]


def test_captions_embedded_and_rejected_make_one_sequence() -> None:
    events = [(0, "images", [0], None), (0, "captions", [0, 0], [0, 2]), (0, "rejected captions", [0], [1])]
    assert settle([SourceFile(0, "a", 1, 3)], events)[0].faults == []
    events[2] = (0, "rejected captions", [0], [2])
    faults = settle([SourceFile(0, "a", 1, 3)], events)[0].faults
    assert "caption 2 is here, but caption 1 is not" in faults[0]
    assert "caption 2 is here twice" in faults[1]


def test_files_that_are_listed_out_of_order_are_not_trusted() -> None:
    findings, _ = settle([SourceFile(1, "b", 1, 0), SourceFile(0, "a", 1, 0)], [(0, "images", [0, 1 << 32], None)])
    assert any("ordinal 0 after 1" in fault for fault in findings.faults)


def test_a_file_of_billions_of_rows_takes_no_memory_for_those_that_are_lost() -> None:
    findings, _ = settle([SourceFile(0, "a", 4_000_000_000, 0)], [(0, "images", [0, 3_999_999_999], None)])
    assert "rows 1 to 3999999998 are neither" in findings.faults[0]
