"""What is going on towards an output, seen from outside: from the records in its staging folder, without touching them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow.fs as fs

from clipmill import storage
from clipmill.stage.outline import Outline
from clipmill.stage.staging import OUTLINE
from clipmill.storage import Location
from clipmill.storage.lease import Holder, holder_of


@dataclass(frozen=True)
class WorkStatus:
    """Unfinished work of a ``stage``. ``done`` of ``planned`` units are done; ``planned`` is None where that is not known.
    ``doing`` says in words what is next.

    ``started`` is the last start, ``moved`` when something was last written, both UTC; ``rate`` is rows per second between
    the two, without what earlier starts did. ``holder`` of the lease is None where no run works on it.
    """

    stage: str
    output: str
    done: int
    planned: int | None
    unit: str
    doing: str
    started: datetime | None
    moved: datetime | None
    rate: float | None
    holder: Holder | None

    @property
    def running(self) -> bool:
        return self.holder is not None and self.holder.alive

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far, for what is left; None where nothing runs or no rate is known yet."""
        if not self.running or not self.rate or self.planned is None:
            return None
        return (self.planned - self.done) / self.rate

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "running": self.running, "seconds_left": self.seconds_left}


def work_towards(output: Location) -> list[WorkStatus]:
    """Unfinished work towards an output, that of each plan; a plan that is worked on has an owner that is alive."""
    parent = storage.staging_of(output)
    by_plan: dict[str, list[fs.FileInfo]] = defaultdict(list)
    for info in storage.list_files(parent):
        token, slash, _ = info.path[len(parent.path) + 1 :].partition("/")
        if slash:
            by_plan[token].append(info)
    holder = holder_of(parent)
    found = [_work(output, parent / token, files, holder) for token, files in sorted(by_plan.items())]
    if not found and holder is not None and holder.alive:
        found.append(WorkStatus("starting", output.uri, 0, None, "rows", "starting", None, None, None, holder))
    return found


def _work(output: Location, folder: Location, files: Sequence[fs.FileInfo], holder: Holder | None) -> WorkStatus:
    names = [info.path[len(folder.path) + 1 :] for info in files]
    outline, starts = _outline(folder), _json(folder / "runs.json") or []
    started = datetime.fromisoformat(starts[-1]["started"]) if starts else None
    moved = max((info.mtime for info in files if info.mtime is not None), default=None)
    done, doing = outline.done(names), outline.doing(names) if starts else "starting"
    planned = outline.pieces if outline.amount is None else outline.amount
    rate = None
    if outline.unit == "rows" and started is not None and moved is not None:
        seconds = (moved.astimezone(timezone.utc) - started).total_seconds()
        new = done - int(starts[-1].get("rows_reused", 0))
        rate = new / seconds if new > 0 and seconds > 0 else None
    return WorkStatus(outline.stage, output.uri, done, planned, outline.unit, doing, started, moved, rate, holder)


def _outline(folder: Location) -> Outline:
    """What the stage wrote of itself; of work that an older version began, only that something is unfinished."""
    found = _json(folder / OUTLINE)
    return Outline(stage="unfinished") if found is None else Outline.model_validate(found)


def _json(location: Location) -> Any:
    """None where it is not there, or was caught while it was removed."""
    try:
        return json.loads(storage.read_bytes(location))
    except (OSError, ValueError):
        return None
