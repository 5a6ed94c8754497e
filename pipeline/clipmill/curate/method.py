"""How near-duplicates are found: all pairs compared exactly, or rows within clusters, which finds nearly all for far less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from clipmill.core.near_pairs import DedupMethod

EXACT_ROWS = 100_000
"""Rows that `auto` compares exactly: 5·10⁹ comparisons, some minutes on two cores. What clusters would save of that is not
worth a pair that is missed; from here on the time of exact comparison grows with the square."""
LEAST_THRESHOLD = 0.9
"""Below it `auto` compares exactly: the less alike rows are, the more cells lie between them. Of 100,000 generated rows a row
looked into 6 of 1,000 cells at .9, into 18 at .85 and 39 at .8."""
ROWS_A_CELL = 32
"""Rows of the sample that a cell is trained on: from fewer its centre is not known."""
_COMPARISONS_A_CORE_HOUR = 2e11
"""From 5·10¹⁰ to 10¹² were seen, by the machine and by how alike vectors are."""


@dataclass(frozen=True)
class Choice:
    """The method, and why it is the one, in a sentence without its full stop."""

    method: DedupMethod
    why: str


def choose_method(asked: DedupMethod | Literal["auto"], n: int, threshold: float) -> Choice:
    """What is done with ``n`` rows. The same for the same arguments on any machine."""
    if asked != "auto":
        return Choice(asked, f"--method {asked} was given")
    if n <= EXACT_ROWS:
        return Choice("exact", f"up to {EXACT_ROWS:,} rows are compared exactly in minutes, and no pair is missed")
    if threshold < LEAST_THRESHOLD:
        why = f"below a threshold of {LEAST_THRESHOLD:g} rows look into many clusters; --method clusters uses them all the same"
        return Choice("exact", why)
    hours = n * (n - 1) / 2 / _COMPARISONS_A_CORE_HOUR
    long = f"{hours:,.0f} core-hours" if hours >= 2 else f"{60 * hours:,.0f} core-minutes"
    return Choice("clusters", f"comparing {n:,} rows exactly would take about {long}")


def cells_for(n: int) -> int:
    """Cells for ``n`` rows: n^.6, but no more than there are 32 rows for each. A row is then compared with a few times n^.4
    others, and finds its cell by about n^.3 products, so that time grows little faster than n."""
    return max(1, min(round(math.pow(n, 0.6)), n // ROWS_A_CELL))
