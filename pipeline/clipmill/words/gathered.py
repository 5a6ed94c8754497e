"""A unit put together from answers that come in any order, each about one text of one row: what engines of streams give."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from clipmill.core.schemas import Reason
from clipmill.words.asking import Asking
from clipmill.words.made import Made, WrittenUnit
from clipmill.words.protocol import Said
from clipmill.words.questions import Reject


@dataclass(frozen=True)
class Told:
    """What was told of one row of a unit: its place there, which of the texts that are asked for about each row, what is known
    of the row, and either what was said or why nothing was. ``asked``: whether the engine was; else the reject is of the whole
    row, and a row of a file without pictures has neither."""

    at: int
    number: int
    known: dict[str, Any]
    asked: bool
    prompt: str = ""
    said: Said | None = None
    reject: Reject | None = None

    def to_json(self) -> str:
        """As a worker sends it."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Told:
        """As it was sent."""
        values: dict[str, Any] = json.loads(text)
        if values["said"] is not None:
            values["said"] = Said(**values["said"])
        if values["reject"] is not None:
            kind, reason, detail = values["reject"]
            values["reject"] = kind, Reason(reason), detail
        return Told(**values)


@dataclass
class Gathering:
    """Units that are under way, by number. ``rows`` are those of each unit, about which ``asking`` is."""

    rows: Mapping[int, int]
    asking: Asking
    _told: dict[int, dict[tuple[int, int], Told]] = field(default_factory=dict)

    def take(self, unit: int, told: Told) -> WrittenUnit | None:
        """The unit, once this was the last that was missing of it."""
        found = self._told.setdefault(unit, {})
        found[told.at, told.number] = told
        if len(found) < self.rows[unit] * self.asking.each:
            return None
        del self._told[unit]
        return written([found[place] for place in sorted(found)], self.asking)


def written(told: Sequence[Told], asking: Asking) -> WrittenUnit:
    """A unit of which all was told, in order of rows and of what was asked about each."""
    by_row = [told[start : start + asking.each] for start in range(0, len(told), asking.each)]
    made = Made([of_row[0].known for of_row in by_row], asking.style)
    for at, of_row in enumerate(by_row):
        first = of_row[0]
        if not first.asked:
            if first.reject is not None:
                made.reject(at, *first.reject)
        elif asking.choices:
            _choose(at, of_row, asking, made)
        else:
            for one in of_row:
                _take(at, one, made, single=asking.each == 1)
    return made.tables()


def _choose(at: int, of_row: Sequence[Told], asking: Asking, made: Made) -> None:
    failed = next((one.reject for one in of_row if one.reject is not None), None)
    if failed is not None:
        made.reject(at, *failed)
        return
    made.take(at, of_row[0].prompt, 0, asking.best([one.said for one in of_row if one.said is not None]))


def _take(at: int, one: Told, made: Made, *, single: bool) -> None:
    if one.reject is not None:
        made.reject(at, *one.reject, candidate=None if single else one.number)
    elif one.said is not None:
        made.take(at, one.prompt, one.number, one.said)
