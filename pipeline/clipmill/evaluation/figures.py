"""A metric says what is measured, a figure is one value of it: everything that reports print and compare, by a stable key.

Metrics are data, in ``metrics.yaml``. A key is ``part.metric``, such as ``t2i.recall@10``: whoever reads figures looks them
up by it and knows no metric by its title.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import computed_field, model_validator

from clipmill.core.manifests import Interval, Record
from clipmill.evaluation import directions

Unit = Literal[
    "proportion", "ratio", "rank", "cosine", "nats", "milliseconds", "bytes", "per second", "count", "seconds", "words"
]
DIRECTIONS: dict[str, str] = dict(directions.DIRECTIONS.items())
"""The parts that are directions of retrieval, and what they are called."""
COMPARED = {
    **DIRECTIONS,
    "zero-shot": "zero-shot",
    "texts": "texts",
    "answers": "answers",
    "index": "index",
    "cost": "cost",
}
"""The parts that say how good or how costly a model is, what they are called, in the order in which reports compare them."""
METRICS = Path(__file__).parent / "metrics.yaml"
_BETTER = {"higher": True, "lower": False, "neither": None}
_PLACES = {
    "direction": "|".join(DIRECTIONS),
    "k": r"\d+",
    "protocol": r"\d+k",
    "side": "images|captions",
    "item": "image|caption",
    "temperature": r"[-+.\de]+",
}
"""What can stand in the places of a key."""


class Keyed(Record):
    """Base of what is measured of one metric. Reports written before there were keys have only ``name``."""

    key: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """The key as readers of ``report.json`` have known it: without its part, save for directions of retrieval."""
        return _name_of(self.key)

    @property
    def part(self) -> str:
        """What is measured: a direction of retrieval, a kind of classification, the index, the cost."""
        return self.key.partition(".")[0]

    @property
    def metric(self) -> str:
        """The key without its part."""
        return self.key.partition(".")[2]

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, document: Any) -> Any:
        """Gives what an older report holds the key of its name, and the direction in which its metric is better."""
        if not isinstance(document, dict) or "name" not in document:
            return document
        upgraded = {field: value for field, value in document.items() if field != "name"}
        if "key" not in upgraded:
            upgraded["key"], better = _known_by(document["name"])
            if "higher_is_better" in cls.model_fields:
                upgraded.setdefault("higher_is_better", better)
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
    """What a figure says, whatever its value."""

    key: str
    title: str
    unit: Unit
    definition: str
    higher_is_better: bool | None

    def figure(self, measured: Interval | float, n: int | None = None) -> Figure:
        """A value of this metric, over ``n`` cases. An interval brings both; one without finite ends has none."""
        low, high = finite_ends(measured) if isinstance(measured, Interval) else (None, None)
        return Figure(
            key=self.key,
            title=self.title,
            value=measured.value if isinstance(measured, Interval) else measured,
            unit=self.unit,
            definition=self.definition,
            low=low,
            high=high,
            n=measured.n if isinstance(measured, Interval) else n,
            higher_is_better=self.higher_is_better,
        )


def metric(key: str, **values: object) -> Metric:
    """The metric of a key, such as ``t2i.recall@10``; ``values`` are what its definition needs besides the key.

    Raises KeyError for a key that ``metrics.yaml`` does not have.
    """
    for pattern, _, entry in _entries():
        found = pattern.fullmatch(key)
        if found:
            title, definition = (entry[text].format(**found.groupdict(), **values) for text in ("title", "definition"))
            return Metric(key, title, cast(Unit, entry["unit"]), definition, _BETTER[entry["better"]])
    raise KeyError(f"metrics.yaml has no {key}")


def find(figures: Iterable[Figure], key: str) -> Figure | None:
    """The first figure of this key; None where there is none."""
    return next((figure for figure in figures if figure.key == key), None)


def finite_ends(interval: Interval) -> tuple[float, float] | tuple[None, None]:
    """``low`` and ``high``; none of an interval without an end, as that of a single image."""
    ends = interval.low, interval.high
    return ends if all(map(math.isfinite, ends)) else (None, None)


@cache
def _entries() -> list[tuple[re.Pattern[str], str, dict[str, str]]]:
    """What keys of each metric look like, the key with its places in braces, and the entry; exact keys come first."""
    entries = yaml.safe_load(METRICS.read_text(encoding="utf-8"))
    return [(_pattern(key), key, entries[key]) for key in sorted(entries, key=lambda key: "{" in key)]


def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression for keys, or names, with named groups for the places in braces."""
    pattern, seen = "", set()
    for number, piece in enumerate(re.split(r"\{(\w+)\}", template)):
        if number % 2 == 0:
            pattern += re.escape(piece)
        elif piece in seen:
            pattern += f"(?P={piece})"
        else:
            seen.add(piece)
            pattern += f"(?P<{piece}>{_PLACES[piece]})"
    return re.compile(pattern)


def _name_of(key: str) -> str:
    part, _, rest = key.partition(".")
    return f"{part}_{rest}" if part in (*DIRECTIONS, "{direction}") else rest


@cache
def _known_by(name: str) -> tuple[str, bool | None]:
    """The key of a figure in a report without keys, by its name, and whether higher is better. The change of a metric has
    its name with a suffix."""
    for _, key, entry in _entries():
        found = _pattern(_name_of(key)).fullmatch(name.removesuffix("_change"))
        if found:
            part = found.groupdict().get("direction", key.partition(".")[0])
            return f"{part}.{name.removeprefix(f'{part}_')}", _BETTER[entry["better"]]
    return f"other.{name}", None
