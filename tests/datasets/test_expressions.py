"""Expressions select the rows that SQL says they should, and nothing but a condition on one row is let in."""

import numpy as np
import pyarrow as pa
import pytest

from clipmill.core.errors import UserError
from clipmill.datasets.expressions import Expression

TABLE = pa.table(
    {
        "row": pa.array([1, 2, 3, 4]),
        "Year": pa.array([2000, None, 2022, 2010]),
        "label": ["cat", None, "dog", "it's"],
        "half": pa.array(np.array([1, 2, 3, 4], np.float16)),
        "seen": pa.array([1, 2, 3, 4], pa.timestamp("us")),
        "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
    }
)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("year > 2005", [3, 4], ("Year",)),
        ("not (year > 2005)", [1], ("Year",)),
        ("year is null or label = 'cat'", [1, 2], ("Year", "label")),
        ("label = 'it''s'", [4], ("label",)),
        ("label ilike '%O%' -- a comment", [3], ("label",)),
        ("half between 2 and 3", [2, 3], ("half",)),
        ("kind = 'a' and rows.row < 3", [1], ("row", "kind")),
        ("seen < timestamp '2020-01-01'", [1, 2, 3, 4], ("seen",)),
        ("true", [1, 2, 3, 4], ()),
        ("case when row = 2 then true end", [2], ("row",)),
        ("\"label\" in ('cat', 'dog')", [1, 3], ("label",)),
    ],
)
def test_the_rows_pass_for_which_the_condition_is_true(text: str, rows: list[int], columns: tuple[str, ...]) -> None:
    expression = Expression.parse(text, TABLE.schema, "--where")
    assert expression.columns == columns
    seen = TABLE.select(columns) if columns else TABLE
    assert TABLE.column("row").filter(pa.array(expression.mask(seen))).to_pylist() == rows
    assert len(expression.mask(seen.slice(0, 0))) == 0


def test_order_is_kept_in_many_rows() -> None:
    table = pa.table({"number": np.arange(300_000)})
    mask = Expression.parse("number % 3 = 1", table.schema, "--where").mask(table)
    np.testing.assert_array_equal(mask, np.arange(300_000) % 3 == 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("wrong > 1", "there is no column 'wrong'"),
        ('label = "cat"', "a text stands in single quotes"),
        ("row > (", "syntax error"),
        ("row", "and not true or false"),
        ("1, true", "not true or false"),
        ("count(*) > 1", "aggregates"),
        ("sum(row) over () > 1", "a window over several rows"),
        ("unnest([true])", "UNNEST"),
        ("row in (select 1)", "a query inside it"),
        ("exists(from rows)", "a query inside it"),
        ("*", "* in place of a column"),
        ("columns('row') > 1", "* in place of a column"),
        ("row > $1", "a parameter"),
        ("random() < 0.5", "random() gives another answer each time"),
        ("seen < now()", "now() gives another answer"),
        ("seen < current_date", "current_date gives another answer"),
        ("true; drop table rows", "syntax error"),
        ("true) from rows where (true", "syntax error"),
        ("true union select true", "syntax error"),
        ("read_text('/etc/passwd') = 'x'", "table function"),
        ("regexp_matches(label, '(')", "missing )"),
    ],
)
def test_anything_else_is_refused_naming_the_option(text: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        Expression.parse(text, TABLE.schema, "--where").mask(TABLE)
    assert says in str(refused.value)
    assert str(refused.value).startswith("--where ")


def test_a_value_that_cannot_be_computed_is_told() -> None:
    expression = Expression.parse("cast(label as int) > 1", TABLE.schema, "--where")
    with pytest.raises(UserError, match="Could not convert string 'cat'"):
        expression.mask(TABLE)


BOMBS = [
    "length(repeat('x', 3000000000)) > 1",
    "length(REPEAT(label, 300000000)) > 1",
    "len(range(1000000000)) > 1",
    "len(generate_series(1, 1000000000)) > 1",
    "len(list_resize([1], 500000000)) > 1",
    "length(lpad('x', 2000000000, 'y')) > 1",
    "length(printf('%2000000000d', 1)) > 1",
    "length(format('{:>1900000000}', 'x')) > 1",
    "length(replace(replace(label, 'a', 'aaaaaaaaa'), 'a', 'aaaaaaaaa')) > 1",
    "len(list_transform([1], lambda x: x)) > 1",
    "len([x for x in [1, 2]]) > 1",
    "levenshtein(label, label) > 1",
    "pg_sleep(100) is null",
    "sleep_ms(100000) is null",
    "bitstring('1', 3000000000) is not null",
    "if(true, length(repeat('x', 3000000000)), 1) > 1",
    "main.repeat('x', 3000000000) = ''",
    "true) FROM rows; SELECT (true",
    "true) FROM rows; DROP TABLE rows; SELECT (true",
    "(" * 3000 + "true" + ")" * 3000,
    "not " * 20000 + "true",
]


@pytest.mark.parametrize("text", BOMBS, ids=[bomb[:40] for bomb in BOMBS])
def test_what_could_take_any_memory_or_time_is_refused_at_once(text: str) -> None:
    with pytest.raises(UserError, match="--where"):
        Expression.parse(text, TABLE.schema, "--where")


@pytest.mark.parametrize(
    "text",
    [
        "lower(label) like '%dog%' and length(trim(label)) > 3",
        "label ~ 'a.*' or regexp_matches(label, 'b+')",
        "split_part(label, ' ', 1) in ('a', 'b')",
        "case when length(label) > 2 then true else starts_with(label, 'x') end",
        "coalesce(left(label, 1), '') || 'z' <> upper(right(label, 2))",
        "length(label) % 2 + 1 - 1 * 2 / 3 >= abs(-1.5)",
        "contains(label, 'x') or ends_with(label, 'y')",
    ],
)
def test_usual_conditions_are_taken(text: str) -> None:
    assert Expression.parse(text, TABLE.schema, "--where").mask(TABLE).shape == (TABLE.num_rows,)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize(
    "text", ["score > 1", "score >= 1", "not score < 1", "score <> 1", "score = score", "score > -1e9"]
)
def test_not_a_number_meets_no_comparison(kind: pa.DataType, text: str) -> None:
    table = pa.table({"score": pa.array([2.0, float("nan"), None], pa.float64()).cast(kind)})
    assert Expression.parse(text, table.schema, "--where").mask(table).tolist() == [True, False, False]
