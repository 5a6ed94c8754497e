"""A metric says what is measured, a figure is one value of it: everything that reports print and compare, by a stable key.

The definitions are data, not docstrings, so ``python -OO`` keeps them. A key is ``group.metric``, such as
``t2i.recall@10``: whoever reads figures looks them up by it and knows no metric by its title.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import computed_field, model_validator

from clipmill.core.manifests import Interval, Record

Unit = Literal[
    "proportion", "ratio", "rank", "cosine", "nats", "milliseconds", "bytes", "per second", "count", "seconds"
]
DIRECTIONS = {"t2i": "text → image", "i2t": "image → text"}
"""The groups whose metrics are the same, by what they are called."""
GROUPS = {**DIRECTIONS, "zero-shot": "zero-shot", "index": "index", "cost": "cost"}
"""The groups of figures that say how good or how costly a model is, in the order in which reports compare them."""


class Keyed(Record):
    """Base of what is measured of one metric. Reports written before there were keys have only ``name``."""

    key: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """The key as readers of ``report.json`` have known it: without its group, save for directions of retrieval."""
        return self.metric if self.group not in DIRECTIONS else f"{self.group}_{self.metric}"

    @property
    def group(self) -> str:
        """What is measured: a direction of retrieval, a kind of classification, the index, the cost."""
        return self.key.partition(".")[0]

    @property
    def metric(self) -> str:
        """The key without its group."""
        return self.key.partition(".")[2]

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, document: Any) -> Any:
        """Gives a figure of an older report the key, and the better direction, that its name and unit imply."""
        if not isinstance(document, dict) or "name" not in document:
            return document
        upgraded = {field: value for field, value in document.items() if field != "name"}
        upgraded.setdefault("key", _key_of_name(document["name"]))
        if "higher_is_better" in cls.model_fields and "unit" in document:
            upgraded.setdefault("higher_is_better", _higher_is_better(document["name"], document["unit"]))
        return upgraded


class Figure(Keyed):
    """One number: ``value`` over ``n`` cases, its 95% interval where it has one, and the sentence that defines it.

    ``higher_is_better`` is null where neither is better.
    """

    title: str
    value: float
    unit: Unit
    definition: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Metric:
    """What a figure says, whatever its value. ``key`` is ``group.metric``, or the metric alone until `of_group` names it."""

    key: str
    title: str
    unit: Unit
    definition: str
    higher_is_better: bool | None = True

    def of_group(self, group: str) -> "Metric":
        """The same metric in a group, such as a direction of retrieval."""
        return replace(self, key=f"{group}.{self.key}")

    def figure(self, measured: Interval | float, n: int | None = None) -> Figure:
        """A value of this metric, over ``n`` cases. An interval brings both; one without finite ends has none."""
        low: float | None = None
        high: float | None = None
        if isinstance(measured, Interval):
            n = measured.n
            if math.isfinite(measured.low) and math.isfinite(measured.high):
                low, high = measured.low, measured.high
        return Figure(
            key=self.key,
            title=self.title,
            value=measured.value if isinstance(measured, Interval) else measured,
            unit=self.unit,
            definition=self.definition,
            low=low,
            high=high,
            n=n,
            higher_is_better=self.higher_is_better,
        )


def find(figures: Iterable[Figure], key: str) -> Figure | None:
    """The first figure of this key; None where there is none."""
    return next((figure for figure in figures if figure.key == key), None)


_GROUP_OF_NAME = {
    r"(t2i|i2t)_": "",
    r"acc\d|mean_per_class_recall|calibration_error|mean_confidence|template_": "zero-shot.",
    r"linear_probe_|knn\d|few_shot_|zero_shot_on_test": "probe.",
    r"\d+_recall@|latency_|bytes_per_vector|(exact|index|less)_recall@": "index.",
    r"(images|captions)_per_|embedding_wall_|bytes_per_": "cost.",
    r"(un)?matched_cosine|cosine_gap|share_below_|info_nce_|match_probability_|clip_score": "alignment.",
    r"cosine": "robustness.",
}
"""The group of a figure in a report without keys: of the first pattern that its name begins with, else the space's."""


def _key_of_name(name: str) -> str:
    group = next((group for pattern, group in _GROUP_OF_NAME.items() if re.match(pattern, name)), "space.")
    return group + name if group else name.replace("_", ".", 1)


def _higher_is_better(name: str, unit: str) -> bool | None:
    if unit in ("rank", "milliseconds", "bytes", "seconds", "nats") or re.search("error|loss|gap", name):
        return False
    return True if unit in ("proportion", "ratio", "per second") else None
