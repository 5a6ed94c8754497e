"""Tables on a terminal: columns that do not fit are left out from the right, and named below."""

import shutil
from collections.abc import Mapping, Sequence

import click

_GAP = "  "
_ALWAYS = 3
"""Columns that stay however narrow the terminal is; their lines are cut."""


def print_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Prints rows of cells under the names of their columns, as wide as the terminal at most."""
    for line in table_lines(rows, shutil.get_terminal_size().columns):
        click.echo(line)


def table_lines(rows: Sequence[Mapping[str, str]], room: int) -> list[str]:
    """The lines of a table in so many columns of characters; the last one names the columns that did not fit."""
    names = list(rows[0]) if rows else []
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    shown = len(names)
    while shown > min(_ALWAYS, len(names)) and sum(widths[:shown]) + len(_GAP) * (shown - 1) > room:
        shown -= 1
    lines = []
    for cells in [names[:shown], *([row[name] for name in names[:shown]] for row in rows)]:
        line = _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()
        lines.append(line if len(line) <= room else line[: room - 1] + "…")
    if left := names[shown:]:
        lines.append(f"not shown, for want of room: {', '.join(left)} (--json has all)")
    return lines
