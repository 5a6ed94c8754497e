"""SQL expressions over columns, as in ``year >= 2020 and caption ilike '%dog%'``: which rows of a table pass.

DuckDB reads and evaluates them, closed to files, the network and the variables of the process. An expression speaks of
one row at a time and gives the same answer each time; anything else is refused before it is used. So is a function whose
answer may be much larger than what it is given: DuckDB bounds neither the memory nor the time of one call.
"""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from clipmill.core.errors import UserError

_CONFIGURATION = {
    "threads": "1",  # which keeps the order of rows as well
    "memory_limit": "512MB",
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}
_REFUSED = {
    "SUBQUERY": "a query inside it",
    "WINDOW": "a window over several rows",
    "STAR": "* in place of a column",
    "PARAMETER": "a parameter",
    "LAMBDA": "a function of its own",
}
_SIZED = re.compile(r"BOOLEAN|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL|DATE|TIME.*|INTERVAL|UUID")
"""Types whose values have one size: a function with such an answer takes no memory."""
# fmt: off
_SHORT = frozenset({
    "||", "+", "-", "&", "|", "<<", ">>", "~", "row", "date_part", "datepart", "concat", "lower", "lcase", "upper",
    "ucase", "trim", "ltrim", "rtrim", "substring", "substr", "substring_grapheme", "left", "right", "left_grapheme",
    "right_grapheme", "reverse", "split_part", "string_split", "str_split", "split", "string_to_array",
    "strip_accents", "nfc_normalize", "md5", "sha1", "sha256", "hex", "strftime", "dayname", "monthname", "date_trunc",
    "datetrunc", "time_bucket", "if", "ifnull", "nullif", "coalesce", "greatest", "least", "abs", "round",
    "regexp_extract", "array_extract", "list_extract", "list_element", "element_at", "struct_extract", "map_extract",
    "list_slice", "array_slice", "list_sort", "array_sort", "list_distinct", "array_distinct", "list_reverse",
    "array_reverse", "list_value", "list_pack", "array_contains", "list_contains", "list_has", "array_has", "len",
    "length", "array_length", "add", "subtract", "multiply", "divide", "mod",
})
# fmt: on
"""Others whose answer is no larger than what they are given, or a few times so."""
# fmt: off
_SLOW = frozenset({
    "pg_sleep", "sleep_ms", "levenshtein", "editdist3", "damerau_levenshtein", "jaro_similarity",
    "jaro_winkler_similarity", "factorial", "!", "gamma", "lgamma",
})
# fmt: on
"""Whose time grows faster than the texts they are given, or that wait."""
_SECONDS = 60.0
"""Time for one table; conditions on some hundred thousand rows take less than one."""
_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_CLOCK_FUNCTIONS = {"now", "today", "get_current_time", "get_current_timestamp", "transaction_timestamp"}
_thread = threading.local()


@dataclass(frozen=True)
class Expression:
    """A condition that was found to make sense for tables of one schema; ``columns`` are those it needs to see.

    ``option`` is where it was given, for messages; ``seconds`` is how long one table may take.
    """

    text: str
    columns: tuple[str, ...]
    option: str
    seconds: float = _SECONDS

    @staticmethod
    def parse(text: str, schema: pa.Schema, option: str, seconds: float = _SECONDS) -> "Expression":
        """Raises UserError for what is no condition on one row, or names a column that ``schema`` does not have."""
        if not text.strip():
            raise _refused(option, text, "it is empty")
        tree = _tree(text, option)
        for node in _nodes(tree):
            if node.get("class") in _REFUSED:
                raise _refused(option, text, f"{_REFUSED[node['class']]} is not possible here")
            function = node.get("function_name")
            if function in _volatile():
                raise _refused(option, text, f"{function}() gives another answer each time")
            if function in _unbounded():
                raise _refused(
                    option, text, f"{function}() is not possible here: its answer could be of any size or time"
                )
        named = {name.lower() for node in _nodes(tree) for name in node.get("column_names", ())}
        columns = tuple(name for name in schema.names if name.lower() in named)
        if clocks := named & _CLOCKS - {name.lower() for name in columns}:
            raise _refused(option, text, f"{min(clocks)} gives another answer each time")
        expression = Expression(text, columns, option, seconds)
        expression._check(schema)
        return expression

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """Whether each row passes (rows,); a row for which the answer is null does not.

        Raises UserError where a value cannot be computed, such as a text that is no number where one is cast.
        """
        if not table.num_rows:
            return np.zeros(0, bool)
        _, answers = _run(f"SELECT coalesce((\n{self.text}\n), false) FROM rows", self._seen(table), self)
        return np.asarray(answers, dtype=bool)

    def _seen(self, table: pa.Table) -> pa.Table:
        """The columns needed, in types that DuckDB reads; a table without any would have no rows."""
        columns = {name: _readable(table.column(name)) for name in self.columns}
        return pa.table(columns or {"_": pa.nulls(table.num_rows, pa.bool_())})

    def _check(self, schema: pa.Schema) -> None:
        empty = pa.table({name: _readable(column) for name, column in _columns_of(schema.empty_table())})
        _run(f"SELECT 1 FROM rows WHERE (\n{self.text}\n)", empty, self)
        kind, _ = _run(f"SELECT (\n{self.text}\n) FROM rows", empty, self)
        if kind.upper() not in ("BOOLEAN", "BOOL"):
            raise _refused(self.option, self.text, f"it gives {kind.lower()} and not true or false")


def _tree(text: str, option: str) -> dict[str, Any]:
    """The syntax tree of the one value that ``text`` is."""
    (answer,) = (
        _connection()
        .execute("SELECT json_serialize_sql(CAST(? AS VARCHAR))", [f"SELECT (\n{text}\n) FROM rows"])
        .fetchone()
    )
    try:
        document = json.loads(answer)
    except RecursionError:
        raise _refused(option, text[:200], "it is nested too deeply") from None
    if document["error"]:
        raise _refused(option, text, str(document["error_message"]))
    if len(document["statements"]) != 1:
        raise _refused(option, text, "it is not one condition")
    node: dict[str, Any] = document["statements"][0]["node"]
    if node["type"] != "SELECT_NODE" or len(node["select_list"]) != 1 or node["where_clause"] is not None:
        raise _refused(option, text, "it is not one condition")
    tree: dict[str, Any] = node["select_list"][0]
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        waiting.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())


def _columns_of(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    return ((name, table.column(name)) for name in table.column_names)


def _readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As DuckDB reads it. NaN becomes null, which meets no comparison: to DuckDB it is the largest of all numbers."""
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _run(query: str, rows: pa.Table, expression: Expression) -> tuple[str, NDArray[Any]]:
    """The type and the values of the one column that a query over ``rows`` answers."""
    with _connection().cursor() as cursor:
        cursor.register("rows", rows)
        bell = threading.Timer(expression.seconds, cursor.interrupt)
        bell.daemon = True
        bell.start()
        try:
            cursor.execute(query)
            ((_, kind, *_),) = cursor.description
            (values,) = cursor.fetchnumpy().values()
        except duckdb.InterruptException:
            raise _refused(
                expression.option, expression.text, f"it took more than {expression.seconds:g} seconds"
            ) from None
        except duckdb.Error as error:
            raise _refused(expression.option, expression.text, _said(error, rows.column_names)) from None
        finally:
            bell.cancel()
    return str(kind), values


def _said(error: duckdb.Error, columns: list[str]) -> str:
    """What DuckDB says, without its kind of error and the query around the expression."""
    first = str(error).splitlines()[0].split(" Error: ", 1)[-1]
    unknown = re.match(r'Referenced column "(.*)" not found', first)
    if unknown is None:
        return first
    there = ", ".join(columns)
    return f"there is no column {unknown[1]!r} (a text stands in single quotes); there are {there}"


def _refused(option: str, text: str, reason: str) -> UserError:
    return UserError(
        f"{option} {text!r}: {reason}; write a condition on one row, such as \"width > 200 and id <> 'x'\""
    )


def _connection() -> duckdb.DuckDBPyConnection:
    if not hasattr(_thread, "connection"):
        connection = duckdb.connect(":memory:", config=_CONFIGURATION)
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET lock_configuration = true")
        _thread.connection = connection
    return _thread.connection


def _volatile() -> frozenset[str]:
    if not hasattr(_thread, "volatile"):
        query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'"
        names = _connection().execute(query).fetchall()
        _thread.volatile = frozenset(name for (name,) in names) | _CLOCK_FUNCTIONS
    result: frozenset[str] = _thread.volatile
    return result


def _unbounded() -> frozenset[str]:
    """Functions of one row whose answers may be much larger than what they are given, or take much longer."""
    if not hasattr(_thread, "unbounded"):
        query = "SELECT function_name, return_type FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro')"
        kinds: dict[str, set[str]] = {}
        for name, kind in _connection().execute(query).fetchall():
            kinds.setdefault(name, set()).add(str(kind))
        sized = {name for name, found in kinds.items() if all(_SIZED.fullmatch(kind) for kind in found)}
        _thread.unbounded = frozenset(kinds) - ((sized - _SLOW) | _SHORT)
    result: frozenset[str] = _thread.unbounded
    return result
