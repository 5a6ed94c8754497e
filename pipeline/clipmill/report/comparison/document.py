"""The schema of ``comparison.json``, which holds everything that the page and the summary show.

The first report is the baseline, and every difference is another report less it. As in ``report.json``, proportions are
fractions and times are UTC; ``schema_version`` rises when a field changes its meaning or goes.
`Comparison.model_json_schema()` is the JSON schema.
"""

from datetime import datetime
from typing import Any, Literal

from clipmill.core.manifests import Record
from clipmill.evaluation.figures import Figure, Keyed, Unit
from clipmill.report.document import PublishedPart

COMPARISON_VERSION = 1
Verdict = Literal["better", "worse", "no visible difference"]
VERDICT = (
    "Better or worse where the 95% interval of the difference leaves out zero. Where many figures are compared some will do so "
    "by chance: Holm's correction (1979) says which would stand if all were judged together."
)


class Compared(Record):
    """One report: its short ``name``, where it lies, the sha256 of its ``report.json``, and what it is about."""

    name: str
    uri: str
    sha256: str
    created: datetime
    dataset: str
    embeddings: str
    embeddings_sha256: str | None
    model: str | None
    pretrained: str | None
    published: PublishedPart | None


class Row(Keyed):
    """One figure of every report, null where a report does not have it. ``higher_is_better`` is null where neither is."""

    group: str
    title: str
    unit: Unit
    definition: str
    higher_is_better: bool | None
    figures: list[Figure | None]


class Change(Keyed):
    """A figure of the baseline (``first``) and of another report (``second``) over the ``n`` queries that they share.

    ``low`` and ``high`` bound the difference, second less first, at 95%; ``p`` is two-sided, ``p_holm`` corrected for all
    figures that were compared with that report.
    """

    title: str
    unit: Unit
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    verdict: Verdict


class FlippedQuery(Record):
    """A query that one report answers and the other does not. Ranks are null for zero-shot; ``text`` is the caption, or
    the right class of an image, where it was kept; ``picture`` is a ``data:`` URI of the image, or of the caption's own."""

    path: str | None
    row_number: int
    caption_index: int | None
    id: str
    text: str | None
    first_rank: float | None
    second_rank: float | None
    picture: str | None = None


class Flips(Record):
    """Queries ``lost`` and ``gained`` from the baseline to the other report, and those that changed most.

    A query is answered where a positive is among the first ten (zero-shot: the right class is first) with a probability
    of one half or more.
    """

    hit: str
    lost: int
    gained: int
    both: int
    neither: int
    lost_examples: list[FlippedQuery]
    gained_examples: list[FlippedQuery]


class TaskChange(Record):
    """One task of two reports. ``why_not`` says why nothing was tested; then there are no changes and no flips.

    ``shared`` queries are in both reports, of the ``first`` and ``second`` ones that are kept of each; ``first_gallery``
    and ``second_gallery`` are how many items they searched (zero-shot: classes). Where either report ranked a sample,
    ``sampled_of`` are the queries that it was drawn from: differences are estimates for all of these.
    """

    task: str
    title: str
    shared: int
    first: int
    second: int
    first_gallery: int
    second_gallery: int
    why_not: str | None
    changes: list[Change]
    flips: Flips | None
    sampled_of: int | None = None


class Candidate(Record):
    """A report against the baseline; ``report`` is its number among the reports, from 0."""

    report: int
    tasks: list[TaskChange]


class Setting(Record):
    """Something that makes up a report, as text, and whether it is another in one of them."""

    group: str
    name: str
    values: list[str]
    differs: bool


class Comparison(Record):
    """``comparison.json``."""

    kind: Literal["comparison"] = "comparison"
    schema_version: int = COMPARISON_VERSION
    created: datetime
    command: str
    settings: dict[str, Any]
    reports: list[Compared]
    summary: list[str]
    rows: list[Row]
    candidates: list[Candidate]
    settings_compared: list[Setting]
    notes: list[str]
    software: dict[str, str]
