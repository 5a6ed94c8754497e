"""Tables fit the terminal: what does not fit is named below, and no line is longer than there is room."""

import json

import pytest
from click.testing import CliRunner

from clipmill_jobs.__main__ import main
from clipmill_jobs.tables import table_lines

ROWS = [
    {"rank": "1", "score": "0.9", "id": "a" * 20, "label": "red star", "year": "2026"},
    dict.fromkeys(("rank", "score", "id", "label", "year"), "x"),
]


@pytest.mark.parametrize("room", [12, 30, 41, 46, 47, 200])
def test_no_line_is_longer_than_there_is_room_but_the_one_that_tells(room: int) -> None:
    lines = table_lines(ROWS, room)
    table = lines[:3]
    assert max(map(len, table)) <= room
    left = [name for name in ROWS[0] if name not in table[0].split()]
    if room >= 30:
        assert (lines[3:] == []) == (left == [])
    if left and room >= 30:
        assert lines[3] == f"not shown, for want of room: {', '.join(left)} (--json has all)"


def test_columns_go_from_the_right() -> None:
    assert table_lines(ROWS, 43)[0].split() == ["rank", "score", "id", "label"]
    assert table_lines(ROWS, 200)[0].split() == ["rank", "score", "id", "label", "year"]


def test_models_are_listed_with_what_to_type() -> None:
    done = CliRunner().invoke(main, ["models"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "clipmill models fetch ViT-B-32 --pretrained" in done.stdout
    assert "builtin-writer writes" in done.stdout
    one = CliRunner().invoke(main, ["models", "ViT-B-32", "--json"])
    assert {"openai", "laion2b_s34b_b79k"} <= {known["pretrained"] for known in json.loads(one.stdout)}
