"""How a run towards an output stands, seen from outside: what is published, what is being made, how the last one ended."""

from dataclasses import dataclass

from clipmill.runs.summary import RunSummary, read_summary
from clipmill.stage.status import WorkStatus, work_towards
from clipmill.storage.lease import Holder, holder_of
from clipmill.versions.place import PARTS, Place
from clipmill.versions.pointer import read_pointer
from clipmill.versions.unfinished import read_unfinished
from clipmill.versions.version import Version, read_version


@dataclass(frozen=True)
class RunStatus:
    """``published`` is the version that readers see, ``making`` the name of one that is not published, ``work`` what is
    unfinished of it, ``holder`` the run that is at it, and ``last`` how the last run ended that did end."""

    published: Version | None
    making: str | None
    work: list[WorkStatus]
    holder: Holder | None
    last: RunSummary | None

    @property
    def anything(self) -> bool:
        return any((self.published, self.making, self.holder, self.last))

    @property
    def running(self) -> bool:
        return self.holder is not None and self.holder.alive


def run_status(place: Place) -> RunStatus:
    """Looks only. Raises RunFailed where the pointer or the version that it names is damaged."""
    current = read_pointer(place).name
    unfinished = read_unfinished(place)
    work = []
    if unfinished is not None:
        folder = place.version(unfinished.name)
        for output in (place.new_rows, *(folder / part for part in PARTS)):
            work += work_towards(output)
    return RunStatus(
        published=read_version(place, current) if current else None,
        making=unfinished.name if unfinished else None,
        work=work,
        holder=holder_of(place.run_lock),
        last=read_summary(place.output),
    )
