"""One lifecycle for everything that writes a dataset.

    finished already?  ->  refuse other settings  ->  hold the lease  ->  continue what is staged  ->  work
    ->  write the last file  ->  still hold the lease?  ->  publish

A stage names its output, what its content follows from, and how far it is; this does the rest, so that all writers keep
the same promises: the same command again is "already complete", a killed one continues, other settings are refused and
told, of two at once one works, and readers see the old dataset or the whole new one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic

from clipmill import storage
from clipmill.core.errors import OutputDiffers, UserError
from clipmill.core.settings import OutputSettings
from clipmill.stage.kinds import Kind, M
from clipmill.stage.outline import Outline
from clipmill.stage.staging import Staging, Started
from clipmill.storage import Location
from clipmill.storage.lease import Lease


@dataclass(frozen=True)
class Made(Generic[M]):
    """What a stage returns: the manifest at the output, and whether it was there already."""

    manifest: M
    already: bool


@dataclass(frozen=True)
class Work:
    """A staging folder that this process holds the lease of. What is written below ``dataset`` is what is published."""

    staging: Staging
    lease: Lease
    outline: Outline
    continued: bool
    """Whether an earlier start left something."""

    @property
    def folder(self) -> Location:
        return self.staging.folder

    @property
    def dataset(self) -> Location:
        return self.staging.dataset

    def start(self, rows_reused: int = 0) -> Started:
        """Records that work begins now, and how many rows earlier starts had finished."""
        return self.staging.note_start(rows_reused)


class Stage(ABC, Generic[M]):
    """A dataset to be made at ``output``, fixed before any work starts.

    A subclass is a frozen dataclass with its ``settings`` and whatever is read of its inputs. ``name`` is what users call
    it, ``kind`` what it makes. Without ``continues`` there is nothing worth keeping of a run that failed or was killed.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind[Any]]
    continues: ClassVar[bool] = True
    settings: OutputSettings

    @property
    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """JSON that names everything the content follows from; unfinished work is continued where it is the same."""

    @abstractmethod
    def differences(self, found: M) -> Sequence[str]:
        """How a finished dataset differs from what this stage makes, in words; empty where it is the same."""

    @property
    def outline(self) -> Outline:
        """How much there is to do, and which files in the staging folder say how much of it is done."""
        return Outline(stage=self.name)

    @cached_property
    def output(self) -> Location:
        return storage.resolve_output(self.settings.output)

    @cached_property
    def staging(self) -> Staging:
        """Where unfinished work lies, in a folder of its own: work of another fingerprint has another."""
        return Staging(self.output, self.fingerprint)

    def finished(self) -> M | None:
        """The manifest at the output where that is what this stage makes; None where there is none.

        With ``overwrite`` a dataset counts only where a run of this stage was killed after it had published. Raises
        OutputDiffers, saying what differs, where another dataset of this kind is there, and UserError where anything
        else is.
        """
        if not self.kind.is_at(self.output):
            return None
        if self.settings.overwrite and not self.staging.is_published():
            return None
        found: M = self.kind.read(self.output)
        refuse_differences(self.output, self.differences(found))
        return found

    @property
    def drops_others(self) -> bool:
        """Whether unfinished work of other settings that lies at the output may be dropped."""
        return self.settings.overwrite

    def refuse_unfinished(self) -> None:
        """Raises OutputDiffers where unfinished work of other settings lies at the output and may not be dropped."""
        if not self.drops_others:
            self.staging.refuse_others()

    def run(self, work: Callable[[Work], M]) -> Made[M]:
        """Makes and publishes the dataset, unless it is there. ``work`` writes its files below ``Work.dataset``, doing
        nothing again that an earlier start did, and returns the manifest.

        Raises OutputDiffers (other settings), Occupied (another run is at it), and what ``work`` raises: then nothing is
        published, and what is staged stays for the next start.
        """
        found = self.finished()
        if found is not None:
            self.staging.drop_leftovers()
            return Made(found, already=True)
        self.refuse_unfinished()
        with Lease.acquire(storage.staging_of(self.output)) as lease:
            found = None
            if storage.is_file(self.output / self.kind.last):  # of a run that ended while this one waited for the lease
                found = self.finished()
            if found is not None:
                return Made(found, already=True)
            continued = self.staging.open(drop_others=self.drops_others)
            if not self.continues:
                storage.remove(self.staging.dataset)
            outline = self.outline
            self.staging.write_outline(outline)
            with self._dropped_if_in_vain(outline, lease):
                manifest = work(Work(self.staging, lease, outline, continued))
                written = self.kind.write(self.staging.dataset, manifest)
            lease.check()
            self.staging.publish(self.kind.last, written.sha256)
        return Made(manifest, already=False)

    @contextmanager
    def _dropped_if_in_vain(self, outline: Outline, lease: Lease) -> Iterator[None]:
        """Leaves no staging folder behind where there is nothing to continue: after a mistake of the user that came up
        before any piece was done, and of stages that do not continue. A run that took over the work keeps it."""
        try:
            yield
        except BaseException as error:
            in_vain = not self.continues or (isinstance(error, UserError) and not outline.done(self.staging.names()))
            if in_vain and not lease.lost:
                self.staging.drop()
            raise


def configuration_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings of ``now`` that a manifest's configuration has otherwise, each in words."""
    left_out = {name: None for name in OutputSettings.LATER if name in before}
    return [
        f"{key.replace('_', ' ')}: was {_said(before.get(key))}, now {_said(value)}"
        for key, value in {**left_out, **now}.items()
        if before.get(key) != value
    ]


def _said(value: Any) -> Any:
    return "not given" if value is None else value


def refuse_differences(output: Location, differences: Sequence[str]) -> None:
    """Raises OutputDiffers where a finished output differs from what is asked for."""
    if differences:
        raise OutputDiffers(
            f"--output {output} is already complete, but with a difference: {'; '.join(differences)}; choose another "
            "output, or --overwrite to replace this one once the new one is complete"
        )
