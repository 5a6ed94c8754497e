"""What a manifest of near-duplicates says of how they were found: the share of all pairs that clusters found, and how far rows
looked."""

from typing import Literal

from clipmill.core.counts import Record
from clipmill.core.promises import Interval

DedupMethod = Literal["exact", "clusters"]
Linkage = Literal["chain", "complete"]


class BandRecall(Record):
    """The share that was found of the pairs with a cosine from ``low`` to ``high``; null where the rows drawn have none.
    ``recall.n`` counts their pairs."""

    low: float
    high: float
    recall: Interval | None


class PairsRecall(Record):
    """The share that was found of all pairs that ``rows`` drawn at random have with all other rows, over all and by bands of
    cosine. The intervals take the rows for what was drawn, not their pairs, which go together."""

    rows: int
    rows_with_pairs: int
    recall: Interval | None
    bands: list[BandRecall]

    def in_words(self, threshold: float) -> str:
        """As one sentence without its full stop."""
        if self.recall is None:
            drawn = f"{self.rows:,} rows drawn at random"
            return f"finds an unknown share of pairs of {short(threshold)} and more: {drawn} have none"
        found = self.recall
        return (
            f"finds {short(found.value)} ({short(found.low)} to {short(found.high)}) of pairs of {short(threshold)} and more: "
            f"of those of {self.rows:,} rows drawn at random, {self.rows_with_pairs:,} of which have any"
        )


class Clusters(Record):
    """How rows were compared within ``cells``: a row looked into ``looks`` of them on average, its home included, and was
    compared with ``compared`` other rows. The margins say how far it looked: by how much less than the cosine with its own
    region, or cell, that with another may be."""

    cells: int
    region_margin: float
    cell_margin: float
    looks: float
    compared: float


def short(share: float) -> str:
    """A share or cosine with three digits and no zero before the point (.998), as few as say it (.95); 1 as it is."""
    text = f"{share:.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text.replace("-0.", "-.")
